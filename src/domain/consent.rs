//! ◆ Consent: what the entries of the ledger amount to, for a patient and for a phone number; what STOP binds and what START
//! lifts. The ledger is only ever added to, so that the same entries always amount to the same.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Author, Channel, ConsentState, PatientId};

/// How a decision on consent got here; the numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConsentSource {
    /// The patient, in the portal.
    Portal = 1,
    /// Staff, on the patient's word.
    Staff = 2,
    /// STOP, START and their like.
    SmsKeyword = 3,
    /// A text that reads like a request to stop.
    SmsFreeText = 4,
    /// The link or the one-click header of a mail.
    Unsubscribe = 5,
    /// A provider reported an opt-out or a complaint.
    Provider = 6,
    /// Brought over from another system.
    Import = 7,
    /// A signed form.
    Form = 8,
}

impl ConsentSource {
    /// Every source.
    pub const ALL: [Self; 8] = [
        Self::Portal,
        Self::Staff,
        Self::SmsKeyword,
        Self::SmsFreeText,
        Self::Unsubscribe,
        Self::Provider,
        Self::Import,
        Self::Form,
    ];

    /// The number of the contract.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The source with that number of the contract.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.number() == number)
    }

    /// Whether staff bring it, with evidence.
    #[must_use]
    pub const fn is_of_staff(self) -> bool {
        matches!(self, Self::Staff | Self::Import | Self::Form)
    }
}

/// An entry of the ledger, as far as it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentEntry {
    /// Its place in the practice's ledger, from 1.
    pub position: i64,
    /// Whose decision it is; unset: of a number that no patient has.
    pub patient: Option<PatientId>,
    /// The channel.
    pub channel: Channel,
    /// What was decided: agreed or opted out.
    pub state: ConsentState,
    /// How it got here.
    pub source: ConsentSource,
    /// The keyed digest of the address that it was given for; unset where there was none.
    pub address: Option<Vec<u8>>,
    /// When the patient decided.
    pub effective_time: DateTime<Utc>,
}

/// An entry with everything that is on record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRecord {
    /// What decides.
    pub entry: ConsentEntry,
    /// When it was written here.
    pub record_time: DateTime<Utc>,
    /// Who brought it.
    pub author: Author,
    /// The masked address.
    pub address_hint: String,
    /// What proves it.
    pub evidence: super::Phi<String>,
    /// Chains it to the entry before.
    pub hash: [u8; 32],
}

impl ConsentEntry {
    /// Whether it says no.
    #[must_use]
    pub fn is_opt_out(&self) -> bool {
        self.state == ConsentState::OptedOut
    }

    /// How far it closes the number that it came from. The provider's own report counts as the STOP that it speaks of.
    fn closes(&self) -> Closure {
        match (self.is_opt_out() && self.channel == Channel::Sms && self.address.is_some(), self.source) {
            (true, ConsentSource::SmsKeyword | ConsentSource::Provider) => Closure::ByStop,
            (true, ConsentSource::SmsFreeText) => Closure::ByRequest,
            _ => Closure::Open,
        }
    }

    /// Whether it is START from `number`.
    fn is_start(&self, number: &[u8]) -> bool {
        let keyword = self.source == ConsentSource::SmsKeyword && self.state == ConsentState::OptedIn;
        keyword && self.address.as_deref() == Some(number)
    }

    /// Whether it is an opt-out that came by text from `number`.
    #[must_use]
    pub fn is_stop_from(&self, number: &[u8]) -> bool {
        self.closes() != Closure::Open && self.address.as_deref() == Some(number)
    }

    /// Whether the provider itself blocks the number because of it.
    #[must_use]
    pub fn is_hard_stop(&self) -> bool {
        self.closes() == Closure::ByStop
    }
}

/// Of a patient's entries for one channel the one in force: the newest by the time of the decision; on a tie the opt-out. An
/// opt-out by a link that was taken back counts for nothing, and neither does the taking back: what lies below holds again, so
/// that a click and its undoing never make an opt-in that nobody gave.
pub fn in_force<'a>(entries: impl IntoIterator<Item = &'a ConsentEntry>) -> Option<&'a ConsentEntry> {
    let standing = not_taken_back(entries).into_iter();
    standing.max_by_key(|entry| (entry.effective_time, entry.is_opt_out(), entry.position))
}

/// The entries that count, in the order of their positions: a link takes back the last that a link did.
fn not_taken_back<'a>(entries: impl IntoIterator<Item = &'a ConsentEntry>) -> Vec<&'a ConsentEntry> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_unstable_by_key(|entry| entry.position);
    let mut left: Vec<&ConsentEntry> = Vec::with_capacity(entries.len());
    for entry in entries {
        if entry.source != ConsentSource::Unsubscribe || entry.is_opt_out() {
            left.push(entry);
        } else if let Some(at) = left.iter().rposition(|entry| entry.source == ConsentSource::Unsubscribe) {
            left.remove(at);
        }
    }
    left
}

/// The opt-outs by links that were not taken back.
pub fn by_links(entries: &[ConsentEntry]) -> impl Iterator<Item = &ConsentEntry> {
    not_taken_back(entries).into_iter().filter(|entry| entry.source == ConsentSource::Unsubscribe)
}

/// Each STOP of a patient that they did not answer themselves since, by START or in the portal, whatever others decided
/// meanwhile.
pub fn unanswered_stops(entries: &[ConsentEntry]) -> impl Iterator<Item = &ConsentEntry> {
    let when = |entry: &ConsentEntry| (entry.effective_time, entry.position);
    let own = |entry: &&ConsentEntry| matches!(entry.source, ConsentSource::Portal | ConsentSource::SmsKeyword);
    let answer = entries.iter().filter(own).filter(|entry| !entry.is_opt_out()).map(when).max();
    entries.iter().filter(move |entry| entry.is_hard_stop() && answer.is_none_or(|answer| when(entry) > answer))
}

/// When a decision counts that is made at this very moment: after the one that it answers, also where a clock was set back.
#[must_use]
pub fn effective_now(state: ConsentState, in_force: Option<&ConsentEntry>, now: DateTime<Utc>) -> DateTime<Utc> {
    let Some(known) = in_force else { return now };
    let wins_a_tie = state == ConsentState::OptedOut;
    let least = if wins_a_tie { known.effective_time } else { known.effective_time + TimeDelta::microseconds(1) };
    now.max(least)
}

/// How far a phone number is closed to texts of a practice, by what was texted from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closure {
    /// It is not.
    #[default]
    Open,
    /// By a text that reads like a request to stop. Staff may lift it, since it may have been none.
    ByRequest,
    /// By STOP or the like, which the provider acts on as well: only START lifts it.
    ByStop,
}

/// A number and what it rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumberState {
    /// How far it is closed.
    pub closure: Closure,
    /// The entry that closed or opened it; 0: none.
    pub position: i64,
    /// When that was decided.
    pub since: DateTime<Utc>,
}

impl NumberState {
    /// What the number is after `entry`, which was given for it.
    #[must_use]
    pub fn after(self, entry: &ConsentEntry) -> Self {
        let closes = entry.closes();
        let lifts = entry.state == ConsentState::OptedIn
            && match entry.source {
                ConsentSource::SmsKeyword => true,
                source => {
                    source.is_of_staff() && self.closure == Closure::ByRequest && entry.effective_time > self.since
                }
            };
        if closes > self.closure || (lifts && self.closure != Closure::Open) {
            Self { closure: closes, position: entry.position, since: entry.effective_time }
        } else {
            self
        }
    }
}

/// Whether START from `number` opts the patient with these entries in: if the opt-out in force came by text from there, and
/// below it lies none of another kind, which is not the phone's to lift.
#[must_use]
pub fn start_opts_in(entries: &[ConsentEntry], number: &[u8]) -> bool {
    let by_text = |entry: &&ConsentEntry| entry.is_stop_from(number) || entry.is_start(number);
    let below = in_force(entries.iter().filter(|entry| !by_text(entry)));
    in_force(entries).is_some_and(|entry| entry.is_stop_from(number)) && !below.is_some_and(ConsentEntry::is_opt_out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    const HERE: &[u8] = b"here";

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn entry(position: i64, state: ConsentState, source: ConsentSource, time: i64) -> ConsentEntry {
        ConsentEntry {
            position,
            patient: Some("maria".parse().unwrap()),
            channel: Channel::Sms,
            state,
            source,
            address: Some(HERE.to_vec()),
            effective_time: at(time),
        }
    }

    fn yes(position: i64, source: ConsentSource) -> ConsentEntry {
        entry(position, ConsentState::OptedIn, source, position)
    }

    fn no(position: i64, source: ConsentSource) -> ConsentEntry {
        entry(position, ConsentState::OptedOut, source, position)
    }

    use ConsentSource::{Form, Import, Portal, Provider, SmsFreeText, SmsKeyword, Staff, Unsubscribe};

    #[test]
    fn the_newest_decision_is_in_force_and_an_opt_out_wins_a_tie() {
        assert_eq!(in_force([]), None);
        let entries = [no(1, Portal), yes(2, Portal)];
        assert_eq!(in_force(&entries).unwrap().position, 2);
        // Written later, decided earlier.
        let back_dated = [yes(5, Portal), entry(6, ConsentState::OptedOut, Staff, 4)];
        assert_eq!(in_force(&back_dated).unwrap().position, 5);
        for order in [[1, 2], [2, 1]] {
            let tie =
                [entry(order[0], ConsentState::OptedOut, Portal, 7), entry(order[1], ConsentState::OptedIn, Portal, 7)];
            assert!(in_force(&tie).unwrap().is_opt_out());
        }
    }

    #[test]
    fn what_a_link_took_back_counts_for_nothing() {
        let position = |entries: &[ConsentEntry]| in_force(entries).map(|entry| entry.position);
        let back = |position| yes(position, Unsubscribe);
        for (entries, expected) in [
            // Nobody ever opted in.
            (vec![no(1, Unsubscribe), back(2)], None),
            (vec![yes(1, Form), no(2, Unsubscribe), back(3)], Some(1)),
            // What was decided before the click, though written after it.
            (vec![no(2, Unsubscribe), entry(3, ConsentState::OptedOut, Staff, 1), back(4)], Some(3)),
            (vec![no(1, Provider), no(2, Unsubscribe), back(3)], Some(1)),
            // Another mail's link is not taken back by it.
            (vec![no(1, Unsubscribe), no(2, Unsubscribe), back(3)], Some(1)),
            (vec![no(1, Unsubscribe), no(2, Unsubscribe), back(3), back(4)], None),
            (vec![no(1, Unsubscribe), back(2), no(3, Unsubscribe)], Some(3)),
            (vec![no(1, Unsubscribe), back(2), yes(3, Portal)], Some(3)),
            (vec![back(1), no(2, Staff)], Some(2)),
        ] {
            assert_eq!(position(&entries), expected, "{entries:?}");
            let left: Vec<_> = by_links(&entries).map(|entry| entry.position).collect();
            assert!(left.len() <= 1 && left.iter().all(|at| Some(*at) == expected), "{entries:?}");
        }
    }

    #[test]
    fn only_the_patient_answers_a_stop() {
        let stops =
            |entries: &[ConsentEntry]| unanswered_stops(entries).map(|entry| entry.position).collect::<Vec<_>>();
        for (entries, expected) in [
            (vec![], vec![]),
            (vec![no(1, SmsKeyword)], vec![1]),
            (vec![no(1, Provider)], vec![1]),
            (vec![no(1, SmsFreeText)], vec![]),
            (vec![no(1, SmsKeyword), no(2, Staff)], vec![1]),
            (vec![no(1, SmsKeyword), yes(2, Staff), no(3, Form)], vec![1]),
            (vec![no(1, SmsKeyword), yes(2, Portal), no(3, Staff)], vec![]),
            (vec![no(1, SmsKeyword), yes(2, SmsKeyword)], vec![]),
            (vec![no(1, SmsKeyword), yes(2, Portal), no(3, SmsKeyword)], vec![3]),
            // Decided before STOP, and written after it.
            (vec![no(2, SmsKeyword), entry(3, ConsentState::OptedIn, Portal, 1)], vec![2]),
        ] {
            assert_eq!(stops(&entries), expected, "{entries:?}");
        }
    }

    #[test]
    fn what_is_decided_now_is_in_force_though_the_clock_was_set_back() {
        let known = entry(1, ConsentState::OptedOut, SmsKeyword, 100);
        for (state, now, expected) in [
            (ConsentState::OptedIn, at(50), at(100) + TimeDelta::microseconds(1)),
            (ConsentState::OptedIn, at(100), at(100) + TimeDelta::microseconds(1)),
            (ConsentState::OptedOut, at(50), at(100)),
            (ConsentState::OptedIn, at(150), at(150)),
        ] {
            assert_eq!(effective_now(state, Some(&known), now), expected);
        }
        assert_eq!(effective_now(ConsentState::OptedIn, None, at(1)), at(1));
    }

    fn number(entries: &[ConsentEntry]) -> Closure {
        entries.iter().fold(NumberState::default(), NumberState::after).closure
    }

    #[test]
    fn a_number_is_closed_by_what_comes_from_it_and_opened_by_start() {
        use Closure::{ByRequest, ByStop, Open};
        for (entries, expected) in [
            (vec![], Open),
            (vec![no(1, SmsKeyword)], ByStop),
            (vec![no(1, Provider)], ByStop),
            (vec![no(1, SmsFreeText)], ByRequest),
            // What others decided binds the patient alone.
            (vec![no(1, Portal)], Open),
            (vec![no(1, Staff)], Open),
            (vec![no(1, Unsubscribe)], Open),
            (vec![no(1, SmsKeyword), yes(2, SmsKeyword)], Open),
            (vec![no(1, SmsFreeText), yes(2, SmsKeyword)], Open),
            (vec![no(1, SmsKeyword), yes(2, Portal)], ByStop),
            (vec![no(1, SmsKeyword), yes(2, Staff)], ByStop),
            (vec![no(1, Provider), yes(2, Form)], ByStop),
            (vec![no(1, SmsFreeText), yes(2, Staff)], Open),
            (vec![no(1, SmsFreeText), yes(2, Form)], Open),
            (vec![no(1, SmsFreeText), yes(2, Import)], Open),
            (vec![no(1, SmsFreeText), yes(2, Portal)], ByRequest),
            // It was decided before the request came.
            (vec![no(2, SmsFreeText), entry(3, ConsentState::OptedIn, Staff, 1)], ByRequest),
            (vec![no(2, SmsFreeText), entry(3, ConsentState::OptedIn, Staff, 2)], ByRequest),
            (vec![no(1, SmsKeyword), no(2, SmsFreeText), yes(3, Staff)], ByStop),
            (vec![no(1, SmsFreeText), no(2, SmsKeyword), yes(3, Staff)], ByStop),
        ] {
            assert_eq!(number(&entries), expected, "{entries:?}");
        }
    }

    #[test]
    fn start_lifts_what_came_by_text_and_nothing_else() {
        let elsewhere = ConsentEntry { address: Some(b"elsewhere".to_vec()), ..no(1, SmsKeyword) };
        for (entries, expected) in [
            (vec![], false),
            (vec![no(1, SmsKeyword)], true),
            (vec![no(1, SmsFreeText)], true),
            (vec![no(1, Provider)], true),
            (vec![elsewhere], false),
            (vec![no(1, Portal)], false),
            (vec![no(1, Form)], false),
            // The one by portal lies below and stays.
            (vec![no(1, Portal), no(2, SmsKeyword)], false),
            (vec![no(1, Staff), no(2, SmsFreeText)], false),
            (vec![no(1, Portal), yes(2, Portal), no(3, SmsKeyword)], true),
            (vec![no(1, SmsKeyword), yes(2, Portal)], false),
            (vec![no(1, SmsKeyword), yes(2, SmsKeyword), no(3, SmsKeyword)], true),
            // Written after STOP, decided before it.
            (vec![no(2, SmsKeyword), entry(3, ConsentState::OptedOut, Staff, 1)], false),
        ] {
            assert_eq!(start_opts_in(&entries, HERE), expected, "{entries:?}");
        }
    }

    #[test]
    fn numbers_of_the_contract_come_back() {
        for source in ConsentSource::ALL {
            assert_eq!(ConsentSource::from_number(source.number()), Some(source));
        }
        assert_eq!(ConsentSource::from_number(0), None);
        assert_eq!(ConsentSource::from_number(9), None);
    }

    fn any_entry() -> impl Strategy<Value = (ConsentState, ConsentSource, i64)> {
        let state = prop_oneof![Just(ConsentState::OptedIn), Just(ConsentState::OptedOut)];
        (state, prop::sample::select(ConsentSource::ALL.to_vec()), 0_i64..6)
    }

    proptest! {
        #[test]
        fn the_order_of_the_rows_does_not_matter(drawn in prop::collection::vec(any_entry(), 1..8), seed in any::<usize>()) {
            let entries: Vec<_> =
                drawn.iter().zip(1..).map(|((state, source, time), n)| entry(n, *state, *source, *time)).collect();
            let mut turned = entries.clone();
            turned.rotate_left(seed % entries.len());
            prop_assert_eq!(in_force(&entries), in_force(&turned));
            let undone = entries.iter().any(|entry| entry.source == Unsubscribe && !entry.is_opt_out());
            let newest = entries.iter().map(|entry| entry.effective_time).max().unwrap();
            if let Some(decided) = in_force(&entries).filter(|_| !undone) {
                prop_assert_eq!(decided.effective_time, newest);
                let refused = entries.iter().any(|entry| entry.effective_time == newest && entry.is_opt_out());
                prop_assert_eq!(decided.is_opt_out(), refused);
            } else {
                prop_assert!(undone);
            }
        }

        #[test]
        fn a_link_never_makes_an_opt_in_and_lifts_nothing_but_what_links_did(
            drawn in prop::collection::vec(any_entry(), 0..8),
        ) {
            let entries: Vec<_> =
                drawn.iter().zip(1..).map(|((state, source, time), n)| entry(n, *state, *source, *time)).collect();
            let others: Vec<_> = entries.iter().filter(|entry| entry.source != Unsubscribe).cloned().collect();
            let (all, without) = (in_force(&entries), in_force(&others));
            prop_assert!(all == without || all.is_some_and(|entry| entry.source == Unsubscribe && entry.is_opt_out()));
        }

        #[test]
        fn only_start_opens_what_stop_closed(drawn in prop::collection::vec(any_entry(), 0..8)) {
            let later = drawn.iter().zip(2..).map(|((state, source, time), n)| entry(n, *state, *source, *time));
            let entries: Vec<_> = std::iter::once(no(1, SmsKeyword)).chain(later).collect();
            let started = entries.iter().any(|entry| entry.is_start(HERE));
            prop_assert!(started || number(&entries) == Closure::ByStop);
        }
    }
}
