//! Whether something new may be taken on. What may not is refused before anything of it is stored, and told when to come
//! back; what was accepted is never shed.

mod calls;
mod texts;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

pub use self::calls::Calls;
use self::texts::{Alarm, Texts};
use crate::{
    domain::{Channel, Class, PhoneNumber, PracticeId, SkipReason},
    service::Error,
    store::{NewNotification, OpenDeliveries, Store},
};

/// When to try again when a practice has too much open: a backlog is not gone in a moment.
const BACKLOG_RETRY: Duration = Duration::from_secs(10);

/// How much is taken on.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Deliveries of a practice that may be open: not sent, or sent with an unknown outcome
    /// (`HEEDWELL_MAX_OPEN_DELIVERIES`).
    pub open_deliveries: i64,
    /// Calls a second of one token's subject; unset: no limit (`HEEDWELL_CALLS_PER_SECOND`).
    pub calls_per_second: Option<u32>,
    /// Segments of text messages that a practice may take on in a day of UTC; unset: no limit (`HEEDWELL_SMS_PER_DAY`).
    pub texts_per_day: Option<i64>,
    /// Text messages of a practice to a thousand neighbouring numbers within ten minutes, and ten times as many as to one; unset:
    /// no limit (`HEEDWELL_SMS_PER_BLOCK`).
    pub texts_per_block: Option<u32>,
}

/// Lets in what there is room for.
#[derive(Clone, Debug)]
pub struct Admission {
    store: Store,
    settings: Settings,
    texts: Arc<Texts>,
}

impl Admission {
    /// To `store`, within `settings`.
    #[must_use]
    pub fn new(store: Store, settings: Settings) -> Self {
        Self { store, settings, texts: Arc::new(Texts::new(settings.texts_per_block)) }
    }

    /// Whether the database's disk has room for anything new. What was accepted needs the rest of it.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub(super) fn room(&self) -> Result<(), Error> {
        if self.store.has_room() { Ok(()) } else { Err(Error::StorageFull) }
    }

    /// Whether a practice that has this open may have more of `class`. What others accept at the same moment is not counted
    /// yet, so that the limit may be passed by as much.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) fn backlog(&self, open: OpenDeliveries, class: Class) -> Result<(), Error> {
        if open.before_the_next(class) < self.settings.open_deliveries {
            return Ok(());
        }
        Err(Error::RateLimited { retry_after: BACKLOG_RETRY, limit: "open_deliveries" })
    }

    /// Whether what a notification texts may be taken on.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) fn texts(
        &self,
        practice: &PracticeId,
        new: &NewNotification,
        open: OpenDeliveries,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let odd = |reason| reason == Some(SkipReason::AddressNotAllowed);
        if new.decisions.iter().any(|it| it.considered && odd(it.skip_reason)) && self.texts.odd(practice) {
            self.tell(practice, Alarm::OddNumbers);
        }
        let texts = new.deliveries.iter().filter(|it| it.channel == Channel::Sms);
        let segments: i64 = texts.filter_map(|it| it.content.as_ref()).map(|it| i64::from(it.sms_segments)).sum();
        match &new.patient.mobile_phone {
            Some(number) if segments > 0 => self.text(practice, (number, segments), open, now),
            _ => Ok(()),
        }
    }

    /// Whether a text of so many segments to that number may be taken on.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) fn text(
        &self,
        practice: &PracticeId,
        (number, segments): (&PhoneNumber, i64),
        open: OpenDeliveries,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        self.day(practice, segments, open, now)?;
        self.texts.take(practice, number).map_err(|(retry_after, limit)| {
            self.tell(practice, Alarm::Velocity);
            Error::RateLimited { retry_after, limit }
        })
    }

    /// Whether so many segments are left of the practice's day. What others accept at the same moment is not counted yet, so that
    /// the limit may be passed by as much.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) fn day(
        &self,
        practice: &PracticeId,
        segments: i64,
        open: OpenDeliveries,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let Some(most) = self.settings.texts_per_day else { return Ok(()) };
        let all = open.texted(now).saturating_add(segments);
        if all > most {
            self.tell(practice, Alarm::Day);
            let midnight = (now.date_naive() + TimeDelta::days(1)).and_time(chrono::NaiveTime::MIN).and_utc();
            let retry_after = (midnight - now).to_std().unwrap_or(Duration::from_secs(60));
            return Err(Error::RateLimited { retry_after, limit: "sms_segments_per_day" });
        }
        if all.saturating_mul(5) > most.saturating_mul(4) {
            self.tell(practice, Alarm::MostOfTheDay);
        }
        Ok(())
    }

    /// Tells whoever reads the log, once in an hour.
    fn tell(&self, practice: &PracticeId, alarm: Alarm) {
        if !self.texts.is_news(practice, alarm) {
            return;
        }
        self.store.telemetry().metrics.alarm(alarm.name(), 1);
        let practice = practice.as_str();
        match alarm {
            Alarm::MostOfTheDay => {
                tracing::warn!(practice.id = practice, "a practice has texted most of what it may in a day");
            }
            Alarm::Day => {
                tracing::error!(
                    practice.id = practice,
                    "a practice has texted all that it may in a day: sends are refused"
                );
            }
            Alarm::Velocity => tracing::error!(
                practice.id = practice,
                "a practice texts one number or its neighbours too often: sends are refused, look who has its keys"
            ),
            Alarm::OddNumbers => tracing::error!(
                practice.id = practice,
                "a practice sends to many numbers that may not be texted: nothing leaves, look who has its keys"
            ),
        }
    }
}
