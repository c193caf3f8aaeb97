//! What may be done, step by step, and what of it is known without asking the store: what was ordered, where the patients
//! are reached, and who is not to be written to.

use std::{collections::BTreeSet, mem};

use heedwell::domain::{Channel, Kind};
use proptest::sample::Index;
use proptest_state_machine::ReferenceStateMachine;

use super::steps;

/// How many replicas work on the database.
pub(super) const REPLICAS: usize = 3;
/// Who is written to.
pub(super) const PATIENTS: [&str; 2] = ["maria", "ann"];
/// Numbers of patients; at first, all have the first.
pub(super) const PHONES: [&str; 2] = ["+12025550142", "+12025550143"];

/// What is ordered.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) patient: usize,
    pub(super) topic: Topic,
    /// 0: none.
    pub(super) reference: u8,
    pub(super) both_channels: bool,
    pub(super) urgent: bool,
    /// Seconds until it may go.
    pub(super) delay: u16,
    /// Minutes until it is too late.
    pub(super) lasts: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// By text message, and maybe by mail.
    Reminder,
    /// By mail; makes the reminders of the same reference pointless.
    VisitCancelled,
    /// In-app, and maybe by mail.
    Message,
}

impl Wish {
    pub(super) fn kind(&self) -> Kind {
        match self.topic {
            Topic::Reminder => Kind::AppointmentReminder,
            Topic::VisitCancelled => Kind::AppointmentCancelled,
            Topic::Message => Kind::MessageReceived,
        }
    }

    pub(super) fn channels(&self) -> Vec<Channel> {
        let first = match self.topic {
            Topic::Reminder => Channel::Sms,
            Topic::VisitCancelled => return vec![Channel::Email],
            Topic::Message => Channel::InApp,
        };
        if self.both_channels { vec![first, Channel::Email] } else { vec![first] }
    }

    pub(super) fn reference(&self) -> String {
        if self.reference == 0 { String::new() } else { format!("visit-{}", self.reference) }
    }
}

/// What the provider does with a call, and what the worker hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Taken,
    /// Taken, and the answer is lost.
    Unanswered,
    /// Not taken, and nothing was heard.
    LostOnTheWay,
    Busy,
    Refused,
    /// There is no such address.
    NoSuchAddress,
    Misconfigured,
    /// The server is stopping: the call is not begun.
    GivenBack,
}

/// What a look at the provider's list shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sight {
    Truth,
    /// The list lacks what is younger than a minute.
    Lagging,
    Unreadable,
    Several,
    /// One that may be another attempt's.
    Contested,
    /// Whoever looked died before saying what was seen.
    Dies,
}

/// What the provider reports; how it ended depends on the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Queued,
    /// On its way: with the carrier, or put off by the receiving host.
    Sent,
    End,
    /// A text arrived though the carrier had said that it did not, or a mail came back though it had been delivered.
    AfterAll,
}

/// Whether a claim lets go whom it may.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold {
    Nobody,
    /// The sender's pace: for so many seconds.
    Pace(u16),
    /// The account's fault: for so many seconds.
    Failing(u16),
}

/// Whose consent to a channel it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Patient(usize),
    /// Whoever is reached where that patient is.
    AddressOf(usize),
}

/// Something that is done.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// At once, each through a replica of its own or all through one, which commits them together; with twins, twice.
    Send {
        wishes: Vec<Wish>,
        twins: bool,
        one_door: bool,
    },
    /// The same once more through every replica at once, or something else under the same key.
    Twins {
        order: Index,
        other: bool,
    },
    /// Maybe only from where the last one said that this one may begin.
    Claim {
        replica: usize,
        limit: u64,
        hold: Hold,
        marked: bool,
    },
    /// Every replica at once.
    ClaimTogether {
        limit: u64,
    },
    /// A claim, its calls and their settlement, without anything in between.
    Work {
        replica: usize,
        fate: Fate,
        arrives: bool,
    },
    Call {
        which: Index,
        fate: Fate,
        arrives: bool,
    },
    /// Maybe while a callback about the same comes in.
    Settle {
        which: Index,
        word: Option<Word>,
    },
    /// Every replica says all that it has heard, at once.
    SettleTogether,
    /// A settlement whose reply was lost is sent once more; rather one of a delivery that somebody else has by now.
    Repeat {
        which: Index,
    },
    /// Maybe to a replica that does not see the attempt, and keeps the report.
    Report {
        which: Index,
        word: Word,
        replica: usize,
        times: usize,
        parks: bool,
    },
    /// A report of an attempt that never was.
    Stray {
        replica: usize,
    },
    /// What was kept is tried again.
    RetryParked {
        replica: usize,
    },
    /// The provider is asked about messages of which nothing was heard for long.
    Poll {
        replica: usize,
        limit: u64,
        ended: bool,
    },
    /// The replica forgets what it claimed.
    Crash {
        replica: usize,
    },
    /// The replica's process starts anew. On SQLite it is the only one.
    Restart {
        replica: usize,
    },
    Advance {
        seconds: u64,
    },
    Rescue {
        replica: usize,
    },
    /// Leases end, and what may have left is looked into to the end.
    Recover {
        replica: usize,
    },
    /// Twice, each time as soon as it is time.
    LookInto {
        replica: usize,
        sights: [Sight; 2],
    },
    /// Asks the provider; what it shows is told at once, or later.
    Look {
        replica: usize,
        limit: u64,
        sight: Sight,
        later: bool,
    },
    /// Tells what was seen before.
    TellSeen {
        which: Index,
    },
    /// Maybe while the others claim.
    Cancel {
        order: Index,
        replica: usize,
        claiming: bool,
    },
    /// Of any delivery or of one that seems lost, maybe by two at once, or with a key that was used before.
    Retry {
        which: Index,
        lost: bool,
        twins: bool,
        old_key: bool,
    },
    /// Whether the patient may be written to, and at which number; maybe while the others claim.
    Patient {
        which: usize,
        inactive: bool,
        phone: usize,
        claiming: bool,
    },
    /// An opt-out, or its end; maybe it commits while the others claim.
    Consent {
        subject: Subject,
        channel: Channel,
        out: bool,
        claiming: bool,
    },
    /// One who watches takes pages of changes.
    Read {
        reader: usize,
        limit: u64,
    },
    /// One who watches goes on from the last cursor that it kept, through any replica.
    Reconnect {
        reader: usize,
        replica: usize,
    },
}

/// What must let a message pass, beside the patient's being active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    Patient(Channel, usize),
    Phone(usize),
    Mailbox(usize),
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Person {
    pub(super) inactive: bool,
    pub(super) phone: usize,
}

/// What is known without asking the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) orders: Vec<Wish>,
    pub(super) people: [Person; PATIENTS.len()],
    /// Gates that an opt-out has closed.
    pub(super) shut: BTreeSet<Gate>,
    /// From which number each patient was opted out last by being given it.
    stopped: [Option<usize>; PATIENTS.len()],
}

impl Plan {
    /// The gate that a consent is about.
    pub(super) fn gate(&self, subject: Subject, channel: Channel) -> Gate {
        match (subject, channel) {
            (Subject::AddressOf(patient), Channel::Sms) => Gate::Phone(self.people[patient].phone),
            (Subject::AddressOf(patient), Channel::Email) => Gate::Mailbox(patient),
            (Subject::Patient(patient) | Subject::AddressOf(patient), _) => Gate::Patient(channel, patient),
        }
    }

    /// Whether nobody has said that this patient is not to be written to over this channel.
    pub(super) fn lets(&self, patient: usize, channel: Channel) -> bool {
        let gates = [Subject::Patient(patient), Subject::AddressOf(patient)].map(|subject| self.gate(subject, channel));
        !self.people[patient].inactive && gates.iter().all(|gate| !self.shut.contains(gate))
    }
}

impl ReferenceStateMachine for Plan {
    type State = Self;
    type Transition = Step;

    fn init_state() -> proptest::strategy::BoxedStrategy<Self> {
        proptest::strategy::Strategy::boxed(proptest::strategy::Just(Self::default()))
    }

    fn transitions(plan: &Self) -> proptest::strategy::BoxedStrategy<Step> {
        steps::after(plan)
    }

    fn apply(mut plan: Self, step: &Step) -> Self {
        match step {
            Step::Send { wishes, .. } => plan.orders.extend(wishes.iter().cloned()),
            Step::Patient { which, inactive, phone, .. } => {
                let before = mem::replace(&mut plan.people[*which], Person { inactive: *inactive, phone: *phone });
                // Whoever is given a number that is closed is opted out, as everybody was who had it.
                let given = before.phone != *phone && plan.shut.contains(&Gate::Phone(*phone));
                if given && plan.stopped[*which].replace(*phone) != Some(*phone) {
                    plan.shut.insert(Gate::Patient(Channel::Sms, *which));
                }
            }
            Step::Consent { subject, channel, out, .. } => {
                let gate = plan.gate(*subject, *channel);
                if *out {
                    plan.shut.insert(gate)
                } else {
                    plan.shut.remove(&gate)
                };
            }
            _ => {}
        }
        plan
    }

    fn preconditions(plan: &Self, step: &Step) -> bool {
        !plan.orders.is_empty() || !matches!(step, Step::Twins { .. } | Step::Cancel { .. })
    }
}
