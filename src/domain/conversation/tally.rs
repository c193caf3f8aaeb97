//! What is counted of a conversation while messages come and go, so that nobody has to count when it is read.

use chrono::{DateTime, Utc};

use super::{ConversationState, MessageRoute, Side};

/// What is said, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// By the patient.
    ByPatient {
        /// Nobody need read it.
        quiet: bool,
        /// It was taken for a request to stop.
        asks_to_stop: bool,
    },
    /// By staff.
    ByStaff(MessageRoute),
    /// By this server: nobody has answered by it.
    Automatic,
}

/// The counts and marks that follow from the messages of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Messages for staff to read, read or not.
    pub inbound: i64,
    /// Messages for the patient to read in the portal, read or not.
    pub outbound: i64,
    /// Of those for staff, how many are not read.
    pub staff_unread: i64,
    /// Of those for the patient, how many are not read.
    pub patient_unread: i64,
    /// Since when the patient waits for an answer.
    pub waiting_since: Option<DateTime<Utc>>,
    /// The mark of staff.
    pub state: ConversationState,
    /// Somebody asked to stop, and staff have not said what that was.
    pub stop_requested: bool,
}

impl Tally {
    /// Of a conversation in which nothing was said yet.
    pub const NEW: Self = Self {
        inbound: 0,
        outbound: 0,
        staff_unread: 0,
        patient_unread: 0,
        waiting_since: None,
        state: ConversationState::Open,
        stop_requested: false,
    };

    /// Counts a message. One that somebody must read opens the conversation again; one of staff answers whoever waits.
    pub fn add(&mut self, said: Said, now: DateTime<Utc>) {
        match said {
            Said::ByPatient { quiet: true, .. } | Said::Automatic => return,
            Said::ByPatient { asks_to_stop, .. } => {
                self.inbound += 1;
                self.staff_unread += 1;
                self.waiting_since = self.waiting_since.or(Some(now));
                self.stop_requested |= asks_to_stop;
            }
            Said::ByStaff(route) => {
                if route == MessageRoute::Portal {
                    self.outbound += 1;
                    self.patient_unread += 1;
                }
                self.waiting_since = None;
            }
        }
        self.state = ConversationState::Open;
    }

    /// One side has read everything up to a message, itself the `rank`-th of those that count for that side.
    pub fn read(&mut self, side: Side, rank: i64) {
        match side {
            Side::Staff => self.staff_unread = (self.inbound - rank).max(0),
            Side::Patient => self.patient_unread = (self.outbound - rank).max(0),
        }
    }

    /// How many of the messages so far count for one side: the rank of the last of them.
    #[must_use]
    pub const fn rank(&self, side: Side) -> i64 {
        match side {
            Side::Staff => self.inbound,
            Side::Patient => self.outbound,
        }
    }

    /// Takes in all that was said in another one. Nothing that is unread, or that somebody waits for, is lost by it.
    pub fn join(&mut self, other: &Self) {
        self.inbound += other.inbound;
        self.outbound += other.outbound;
        self.staff_unread += other.staff_unread;
        self.patient_unread += other.patient_unread;
        self.waiting_since = match (self.waiting_since, other.waiting_since) {
            (Some(own), Some(theirs)) => Some(own.min(theirs)),
            (own, theirs) => own.or(theirs),
        };
        if other.state == ConversationState::Open {
            self.state = ConversationState::Open;
        }
        self.stop_requested |= other.stop_requested;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    const PLAIN: Said = Said::ByPatient { quiet: false, asks_to_stop: false };
    const KEYWORD: Said = Said::ByPatient { quiet: true, asks_to_stop: false };
    const STOP_PLEASE: Said = Said::ByPatient { quiet: false, asks_to_stop: true };

    fn after(said: &[Said]) -> Tally {
        let mut tally = Tally::NEW;
        said.iter().zip(0..).for_each(|(said, second)| tally.add(*said, at(second)));
        tally
    }

    #[test]
    fn a_patient_waits_from_the_first_message_that_nobody_answered() {
        assert_eq!(after(&[PLAIN, PLAIN]).waiting_since, Some(at(0)));
        assert_eq!(after(&[PLAIN, Said::ByStaff(MessageRoute::Sms)]).waiting_since, None);
        assert_eq!(after(&[PLAIN, Said::ByStaff(MessageRoute::Portal), PLAIN]).waiting_since, Some(at(2)));
        assert_eq!(after(&[PLAIN, KEYWORD]).waiting_since, Some(at(0)));
        assert_eq!(after(&[PLAIN, Said::Automatic]).waiting_since, Some(at(0)), "no person answered");
    }

    #[test]
    fn neither_a_keyword_nor_an_automatic_reply_changes_anything() {
        let closed = Tally { state: ConversationState::Closed, ..Tally::NEW };
        for said in [KEYWORD, Said::Automatic] {
            let mut tally = closed;
            tally.add(said, at(0));
            assert_eq!(tally, closed, "{said:?}");
        }
    }

    #[test]
    fn whatever_must_be_read_opens_a_closed_conversation() {
        for said in [PLAIN, STOP_PLEASE, Said::ByStaff(MessageRoute::Sms), Said::ByStaff(MessageRoute::Portal)] {
            let mut tally = Tally { state: ConversationState::Closed, ..Tally::NEW };
            tally.add(said, at(0));
            assert_eq!(tally.state, ConversationState::Open, "{said:?}");
            assert_eq!(tally.stop_requested, said == STOP_PLEASE);
        }
    }

    #[test]
    fn what_goes_out_by_text_is_not_for_the_portal_to_mark() {
        assert_eq!(after(&[Said::ByStaff(MessageRoute::Sms)]).patient_unread, 0);
        assert_eq!(after(&[Said::ByStaff(MessageRoute::Portal)]).patient_unread, 1);
    }

    /// What happens in a conversation: something is said, or a side marks the message at this share of those there are.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Say(Said),
        Mark(Side, usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let said = prop_oneof![
            Just(PLAIN),
            Just(KEYWORD),
            Just(STOP_PLEASE),
            Just(Said::ByStaff(MessageRoute::Sms)),
            Just(Said::ByStaff(MessageRoute::Portal)),
            Just(Said::Automatic),
        ];
        let side = prop_oneof![Just(Side::Staff), Just(Side::Patient)];
        prop_oneof![3 => said.prop_map(Step::Say), 1 => (side, any::<usize>()).prop_map(|(side, n)| Step::Mark(side, n))]
    }

    /// The plain way: a list of messages, each with whom it is for, and how far each side has read.
    #[derive(Default)]
    struct Listed {
        messages: Vec<(Option<Side>, [i64; 2])>,
        read: [usize; 2],
    }

    impl Listed {
        fn unread(&self, side: Side) -> i64 {
            let rest = self.messages.iter().skip(self.read[side as usize]);
            i64::try_from(rest.filter(|(for_side, _)| *for_side == Some(side)).count()).unwrap()
        }
    }

    /// Takes steps both ways.
    fn walk(steps: &[Step]) -> (Tally, Listed) {
        let (mut tally, mut listed) = (Tally::NEW, Listed::default());
        for (step, second) in steps.iter().zip(0..) {
            match *step {
                Step::Say(said) => {
                    tally.add(said, at(second));
                    let for_side = match said {
                        Said::ByPatient { quiet, .. } => (!quiet).then_some(Side::Staff),
                        Said::ByStaff(route) => (route == MessageRoute::Portal).then_some(Side::Patient),
                        Said::Automatic => None,
                    };
                    listed.messages.push((for_side, [tally.rank(Side::Staff), tally.rank(Side::Patient)]));
                }
                Step::Mark(side, n) if !listed.messages.is_empty() => {
                    let place = n % listed.messages.len();
                    // Marks only go forward.
                    if place + 1 >= listed.read[side as usize] {
                        tally.read(side, listed.messages[place].1[side as usize]);
                        listed.read[side as usize] = place + 1;
                    }
                }
                Step::Mark(..) => {}
            }
        }
        (tally, listed)
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_counting_yields(steps in prop::collection::vec(any_step(), 0..60)) {
            let (tally, listed) = walk(&steps);
            prop_assert_eq!(tally.staff_unread, listed.unread(Side::Staff));
            prop_assert_eq!(tally.patient_unread, listed.unread(Side::Patient));
            prop_assert!(tally.waiting_since.is_none() || tally.inbound > 0);
        }

        #[test]
        fn a_join_loses_nothing(
            one in prop::collection::vec(any_step(), 0..20),
            other in prop::collection::vec(any_step(), 0..20),
        ) {
            let (mut joined, other) = (walk(&one).0, walk(&other).0);
            let own = joined;
            joined.join(&other);
            prop_assert_eq!(joined.staff_unread, own.staff_unread + other.staff_unread);
            prop_assert_eq!(joined.patient_unread, own.patient_unread + other.patient_unread);
            prop_assert_eq!(joined.inbound, own.inbound + other.inbound);
            prop_assert_eq!(joined.stop_requested, own.stop_requested || other.stop_requested);
            for waits in [own.waiting_since, other.waiting_since].into_iter().flatten() {
                prop_assert!(joined.waiting_since.is_some_and(|since| since <= waits));
            }
        }
    }
}
