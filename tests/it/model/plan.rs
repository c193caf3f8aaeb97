//! What may be done, step by step, and what of it is known without asking the store: what was ordered, and
//! which patients are not to be written to.

use proptest::{
    prelude::*,
    sample::{Index, select},
};
use proptest_state_machine::ReferenceStateMachine;

/// How many replicas work on the database.
pub(super) const REPLICAS: usize = 3;
/// Who is written to.
pub(super) const PATIENTS: [&str; 2] = ["maria", "ann"];

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

/// What the provider does with a call, and what the worker hears of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Taken,
    /// Taken, and the answer is lost.
    Unanswered,
    /// Not taken, and nothing was heard.
    LostOnTheWay,
    Busy,
    Refused,
    Misconfigured,
    /// The server is stopping: the call is not begun.
    GivenBack,
}

/// What a look at the provider's list shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sight {
    Truth,
    Unreadable,
    Several,
    /// Whoever looked died before saying what was seen.
    Dies,
}

/// What the provider reports; how it ended depends on the message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    Queued,
    Sent,
    End,
    /// It arrived, though the carrier had said that it did not.
    AfterAll,
}

/// Something that is done.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Each through a replica of its own, at once; or each through two.
    Send {
        wishes: Vec<Wish>,
        twins: bool,
    },
    /// The same once more through every replica at once, or something else under the same key.
    Twins {
        order: Index,
        other: bool,
    },
    Claim {
        replica: usize,
        limit: u64,
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
    Settle {
        which: Index,
    },
    /// Every replica says all that it has heard, at once.
    SettleTogether,
    /// A settlement whose reply was lost is sent once more; rather one of a delivery that somebody else has by now.
    Repeat {
        which: Index,
    },
    Report {
        which: Index,
        word: Word,
        replica: usize,
        times: usize,
    },
    /// The replica forgets what it claimed.
    Crash {
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
    Look {
        replica: usize,
        limit: u64,
        sight: Sight,
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
    /// Whether the patient may be written to; maybe while the others claim.
    Patient {
        which: usize,
        inactive: bool,
        claiming: bool,
    },
    /// One who watches takes pages of changes.
    Read {
        reader: usize,
        limit: u64,
    },
    /// One who watches goes back to the last position that it kept.
    Reconnect {
        reader: usize,
    },
}

/// What is known without asking the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) orders: Vec<Wish>,
    pub(super) inactive: [bool; PATIENTS.len()],
}

fn wish() -> impl Strategy<Value = Wish> {
    let topic = prop_oneof![6 => Just(Topic::Reminder), 1 => Just(Topic::VisitCancelled), 2 => Just(Topic::Message)];
    let delay = prop_oneof![4 => Just(0_u16), 1 => 1..200_u16];
    let lasts = prop_oneof![3 => Just(720_u16), 1 => 1..6_u16];
    (0..PATIENTS.len(), topic, 0..3_u8, any::<bool>(), any::<bool>(), delay, lasts).prop_map(
        |(patient, topic, reference, both_channels, urgent, delay, lasts)| Wish {
            patient,
            topic,
            reference,
            both_channels,
            urgent,
            delay,
            lasts,
        },
    )
}

fn send() -> impl Strategy<Value = Step> {
    (prop::collection::vec(wish(), 1..4), prop::bool::weighted(0.3))
        .prop_map(|(wishes, twins)| Step::Send { wishes, twins })
}

fn work() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS;
    let fate = prop_oneof![
        6 => Just(Fate::Taken),
        2 => Just(Fate::Unanswered),
        1 => Just(Fate::LostOnTheWay),
        1 => Just(Fate::Busy),
        2 => Just(Fate::Refused),
        1 => select(vec![Fate::Misconfigured, Fate::GivenBack]),
    ];
    prop_oneof![
        3 => (replica.clone(), 1..4_u64).prop_map(|(replica, limit)| Step::Claim { replica, limit }),
        2 => (1..3_u64).prop_map(|limit| Step::ClaimTogether { limit }),
        8 => (replica.clone(), fate.clone(), prop::bool::weighted(0.5))
            .prop_map(|(replica, fate, arrives)| Step::Work { replica, fate, arrives }),
        6 => (any::<Index>(), fate, prop::bool::weighted(0.7))
            .prop_map(|(which, fate, arrives)| Step::Call { which, fate, arrives }),
        3 => any::<Index>().prop_map(|which| Step::Settle { which }),
        1 => Just(Step::SettleTogether),
        2 => any::<Index>().prop_map(|which| Step::Repeat { which }),
        1 => replica.prop_map(|replica| Step::Crash { replica }),
    ]
}

fn afterwards() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS;
    let word = select(vec![Word::Queued, Word::Sent, Word::End, Word::End, Word::AfterAll]);
    let sight = prop_oneof![
        6 => Just(Sight::Truth),
        1 => select(vec![Sight::Unreadable, Sight::Several, Sight::Dies]),
    ];
    let seconds = prop_oneof![4 => 1..10_u64, 2 => 15..20_u64, 2 => 61..130_u64, 1 => 600..4_000_u64];
    prop_oneof![
        9 => (any::<Index>(), word, replica.clone(), 1..4_usize)
            .prop_map(|(which, word, replica, times)| Step::Report { which, word, replica, times }),
        4 => seconds.prop_map(|seconds| Step::Advance { seconds }),
        3 => replica.clone().prop_map(|replica| Step::Rescue { replica }),
        2 => replica.clone().prop_map(|replica| Step::Recover { replica }),
        4 => (replica, 1..4_u64, sight).prop_map(|(replica, limit, sight)| Step::Look { replica, limit, sight }),
    ]
}

fn people() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS;
    prop_oneof![
        4 => send(),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(order, other)| Step::Twins { order, other }),
        2 => (any::<Index>(), replica, any::<bool>())
            .prop_map(|(order, replica, claiming)| Step::Cancel { order, replica, claiming }),
        6 => (any::<Index>(), prop::bool::weighted(0.8), prop::bool::weighted(0.3), prop::bool::weighted(0.2))
            .prop_map(|(which, lost, twins, old_key)| Step::Retry { which, lost, twins, old_key }),
        1 => (0..PATIENTS.len(), prop::bool::weighted(0.4), any::<bool>())
            .prop_map(|(which, inactive, claiming)| Step::Patient { which, inactive, claiming }),
    ]
}

fn watch() -> impl Strategy<Value = Step> {
    let reader = 0..REPLICAS;
    prop_oneof![
        3 => (reader.clone(), 1..9_u64).prop_map(|(reader, limit)| Step::Read { reader, limit }),
        1 => reader.prop_map(|reader| Step::Reconnect { reader }),
    ]
}

impl ReferenceStateMachine for Plan {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(plan: &Self) -> BoxedStrategy<Step> {
        if plan.orders.is_empty() {
            return send().boxed();
        }
        prop_oneof![10 => work(), 11 => afterwards(), 8 => people(), 2 => watch()].boxed()
    }

    fn apply(mut plan: Self, step: &Step) -> Self {
        match step {
            Step::Send { wishes, .. } => plan.orders.extend(wishes.iter().cloned()),
            Step::Patient { which, inactive, .. } => plan.inactive[*which] = *inactive,
            _ => {}
        }
        plan
    }

    fn preconditions(plan: &Self, step: &Step) -> bool {
        !plan.orders.is_empty() || !matches!(step, Step::Twins { .. } | Step::Cancel { .. })
    }
}
