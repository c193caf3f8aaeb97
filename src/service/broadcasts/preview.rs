//! Whom a broadcast would reach and skip if it began now, and how it reads. Each recipient is decided on as they would be then.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Broadcasts, Input};
use crate::{
    domain::{
        Audience, Channel, Content, DeliveryId, Kind, Patient, PatientId, Planner, Scope, SkipReason,
        template::{self, Announced},
    },
    service::Error,
    store::{Position, WordingHome},
};

/// Recipients that are looked at at once.
const PAGE: usize = 500;
/// The mail that is not sent: nobody can unsubscribe by it.
const NO_MAIL: DeliveryId = DeliveryId(Uuid::nil());

/// What a broadcast would do now.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Patients in the audience.
    pub recipients: i64,
    /// One per channel of the broadcast.
    pub reaches: Vec<Reach>,
}

/// What it would do on one channel.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The channel.
    pub channel: Channel,
    /// How many would be written to.
    pub sends: i64,
    /// How many would not, by reason.
    pub skips: BTreeMap<SkipReason, i64>,
    /// How it reads; unset if there can be no text.
    pub sample: Option<Content>,
    /// Sentences fit to show to staff.
    pub warnings: Vec<String>,
}

impl Broadcasts {
    /// Says what a broadcast would do, and renders it for `sample`, which the audit trail tells, or for somebody invented. Nothing
    /// else is stored.
    ///
    /// # Errors
    /// `FIELD_INVALID`, `NOT_FOUND` (patient).
    pub async fn preview(&self, scope: &Scope, input: Input, sample: Option<PatientId>) -> Result<Preview, Error> {
        let home = self.store.wording_home(scope).await?;
        let reader = match &sample {
            Some(id) => {
                let grounds = self.store.grounds(scope, id).await;
                Some(grounds.map_err(|error| Error::from(error).named(id))?.patient)
            }
            None => template::reader_of_samples(&home.practice),
        };
        let (home, input) = self.checked(home, input).await?;
        let mut preview = self.counted(scope, &input).await?;
        for reach in &mut preview.reaches {
            reach.warnings = refusals(reach.channel, &home, &input.audience, preview.recipients);
        }
        let Some(reader) = reader else { return Ok(preview) };
        let unsubscribe = format!("{}/u/{}", self.public_url, self.store.unsubscribe_token(NO_MAIL));
        let work = tokio::task::spawn_blocking(move || {
            let announced = Announced::new(&input.announcement, &home.practice);
            for reach in &mut preview.reaches {
                render(reach, &announced, &home, (&reader, &unsubscribe));
            }
            preview
        });
        let preview = work.await.map_err(|error| Error::Internal(error.into()))?;
        if let Some(patient) = &sample {
            self.store.audit_read(scope, Some(patient), "preview").await?;
        }
        Ok(preview)
    }

    /// Decides on each recipient, page by page. Of those before, only the addresses that are taken are kept in mind: 9 bytes each,
    /// with their set about 15.
    async fn counted(&self, scope: &Scope, input: &Input) -> Result<Preview, Error> {
        let due = self.store.now().await?;
        let due = input.schedule_time.unwrap_or(due).max(due);
        let mut planner = Planner::<[u8; 8]>::new(input.channels, due, BTreeSet::new());
        let reach = |channel| Reach { channel, sends: 0, skips: BTreeMap::new(), sample: None, warnings: Vec::new() };
        let recipients = self.store.audience_count(scope, &input.audience).await?;
        let mut preview = Preview { recipients, reaches: input.channels.iter().map(reach).collect() };
        let mut position = Some(Position::default());
        while let Some(after) = position {
            let page = self.store.audience_page(scope, &input.audience, &after, PAGE).await?;
            for member in &page.members {
                let grounds = member.grounds.grounds(Kind::Announcement);
                let share = planner.share(&grounds, |channel| member.addresses.get(&channel).map(|key| key.half()));
                for reach in &mut preview.reaches {
                    let decision = share.decisions.iter().find(|decision| decision.channel == reach.channel);
                    match decision.and_then(|decision| decision.skip_reason) {
                        Some(reason) => *reach.skips.entry(reason).or_default() += 1,
                        None => reach.sends += 1,
                    }
                }
            }
            position = page.next;
        }
        Ok(preview)
    }
}

/// What stands in the way of all of it on a channel, or of some whom staff named.
fn refusals(channel: Channel, home: &WordingHome, audience: &Audience, recipients: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    if !home.settings.is_set_up(channel) {
        warnings.push(format!("{} is not set up: a broadcast over it is refused.", channel.label()));
    }
    if let Audience::Patients(named) = audience {
        let named = i64::try_from(named.len()).unwrap_or(i64::MAX);
        let left = named - recipients;
        if left > 0 {
            warnings.push(format!("{left} of the {named} patients named are not there or inactive, and are left out."));
        }
    }
    warnings
}

fn render(reach: &mut Reach, announced: &Announced, home: &WordingHome, (reader, unsubscribe): (&Patient, &str)) {
    let (practice, settings) = (&home.practice, &home.settings);
    let ask = announced.for_one(reach.channel, (practice, settings), reader, unsubscribe);
    match template::render(&ask) {
        Ok(content) => {
            reach.warnings.extend(template::warnings(&ask, &content));
            reach.sample = Some(content);
        }
        Err(_) => reach.warnings.push(format!("There is no text for this patient on {}.", reach.channel.label())),
    }
}
