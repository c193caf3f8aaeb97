//! Whether staff may have a delivery sent again. A state never goes back, so that a retry is a delivery of its own, linked to
//! the one that it repeats.

use super::{Delivery, DeliveryState, Facts};

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryBar {
    /// Its state: nothing has failed, or not yet for good.
    State(DeliveryState),
    /// It is unconfirmed, and the server has not ended looking into it.
    Open,
    /// It has been sent again.
    Retried,
    /// Its notification was cancelled.
    Cancelled,
    /// Its text was removed, or a file that went along with it.
    TextGone,
}

impl RetryBar {
    /// What bars `delivery`, as far as it shows by itself.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Option<Self> {
        match delivery.state {
            DeliveryState::Failed | DeliveryState::Unconfirmed if delivery.retried_by.is_some() => Some(Self::Retried),
            DeliveryState::Failed => None,
            DeliveryState::Unconfirmed if delivery.next_action_time.is_none() => None,
            DeliveryState::Unconfirmed => Some(Self::Open),
            state => Some(Self::State(state)),
        }
    }

    /// The word for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::State(state) => state.label(),
            Self::Open => DeliveryState::Unconfirmed.label(),
            Self::Retried => "retried",
            Self::Cancelled => "source_cancelled",
            Self::TextGone => "text_removed",
        }
    }

    /// A sentence fit to show to staff.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::State(_) => "only a delivery that failed, or that stayed unconfirmed, can be sent again",
            Self::Open => "the provider is still being asked what became of it",
            Self::Retried => "it was sent again before; send that one again",
            Self::Cancelled => "its notification was cancelled",
            Self::TextGone => "its text, or a file that went along with it, is no longer kept",
        }
    }
}

impl Facts {
    /// Whether the patient may have the message, going by what providers said: taken, and not known to have been lost since.
    #[must_use]
    pub const fn may_have_arrived(self) -> bool {
        self.any(Self::DELIVERED.and(Self::READ)) || (self.left_us() && !self.any(Self::UNDELIVERED.and(Self::BOUNCED)))
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Channel, DeliveryId, NotificationId, Source, shown};

    fn delivery(state: DeliveryState) -> Delivery {
        let now = DateTime::UNIX_EPOCH;
        Delivery {
            trace: None,
            id: DeliveryId(Uuid::from_u128(1)),
            patient: None,
            revision: 1,
            kind: None,
            channel: Channel::Sms,
            state,
            skip_reason: None,
            failure: None,
            address_hint: String::new(),
            provider: None,
            provider_message_id: String::new(),
            attempts: 1,
            next_action_time: None,
            possible_duplicate: false,
            create_time: now,
            send_time: None,
            deliver_time: None,
            update_time: now,
            open_time: None,
            sms_segments: 1,
            source: Source::Notification(NotificationId(Uuid::nil())),
            broadcast: None,
            reference: String::new(),
            retry_of: None,
            retried_by: None,
        }
    }

    #[test]
    fn only_what_failed_or_stayed_unconfirmed_is_sent_again_and_once() {
        for state in DeliveryState::ALL {
            let may = matches!(state, DeliveryState::Failed | DeliveryState::Unconfirmed);
            let bar = RetryBar::of(&delivery(state));
            assert_eq!(bar, (!may).then_some(RetryBar::State(state)));
            let retried = Delivery { retried_by: Some(DeliveryId(Uuid::from_u128(2))), ..delivery(state) };
            assert_eq!(RetryBar::of(&retried), Some(if may { RetryBar::Retried } else { RetryBar::State(state) }));
        }
        let later = Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(15));
        let open = Delivery { next_action_time: later, ..delivery(DeliveryState::Unconfirmed) };
        assert_eq!(RetryBar::of(&open), Some(RetryBar::Open));
    }

    #[test]
    fn what_is_shown_as_sent_or_delivered_may_have_arrived_and_more_facts_decide_the_rest() {
        for channel in Channel::ALL {
            for bits in 0..1 << 17 {
                let facts = Facts::from_bits(bits);
                match shown(channel, facts) {
                    DeliveryState::Sent | DeliveryState::Delivered => {
                        let lost = facts.any(Facts::BOUNCED) && channel != Channel::Email;
                        assert!(facts.may_have_arrived() || lost, "{channel:?} {bits:#b}");
                    }
                    DeliveryState::Failed => {}
                    _ => assert!(!facts.may_have_arrived(), "{channel:?} {bits:#b}"),
                }
            }
        }
        assert!(!Facts::ACCEPTED.and(Facts::UNDELIVERED).may_have_arrived());
        assert!(Facts::ACCEPTED.and(Facts::REFUSED).may_have_arrived());
        assert!(Facts::DELIVERED.and(Facts::BOUNCED).may_have_arrived());
    }
}
