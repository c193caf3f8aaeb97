//! How often each step is taken, and with what.

use heedwell::domain::Channel;
use proptest::{
    prelude::*,
    sample::{Index, select},
};

use super::plan::{Fate, Hold, PATIENTS, PHONES, Plan, REPLICAS, Sight, Step, Subject, Topic, Wish, Word};

/// What may follow.
pub(super) fn after(plan: &Plan) -> BoxedStrategy<Step> {
    if plan.orders.is_empty() {
        return send().boxed();
    }
    prop_oneof![10 => work(), 11 => afterwards(), 9 => people(), 2 => watch()].boxed()
}

fn wish() -> impl Strategy<Value = Wish> {
    let topic = prop_oneof![6 => Just(Topic::Reminder), 1 => Just(Topic::VisitCancelled), 2 => Just(Topic::Message)];
    let delay = prop_oneof![4 => Just(0_u16), 1 => 1..200_u16];
    // Half a day as by default, a few minutes, or longer than tries are made.
    let lasts = prop_oneof![6 => Just(720_u16), 2 => 1..6_u16, 1 => Just(3_000_u16)];
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
    (prop::collection::vec(wish(), 1..4), prop::bool::weighted(0.3), any::<bool>())
        .prop_map(|(wishes, twins, one_door)| Step::Send { wishes, twins, one_door })
}

fn work() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS;
    let fate = prop_oneof![
        12 => Just(Fate::Taken),
        4 => Just(Fate::Unanswered),
        2 => Just(Fate::LostOnTheWay),
        2 => Just(Fate::Busy),
        4 => Just(Fate::Refused),
        2 => select(vec![Fate::Misconfigured, Fate::GivenBack]),
        1 => Just(Fate::NoSuchAddress),
    ];
    let hold = prop_oneof![4 => Just(Hold::Nobody), 1 => (1..90_u16).prop_map(Hold::Pace),
        1 => (1..90_u16).prop_map(Hold::Failing)];
    prop_oneof![
        4 => (replica.clone(), 1..4_u64, hold, any::<bool>())
            .prop_map(|(replica, limit, hold, marked)| Step::Claim { replica, limit, hold, marked }),
        2 => (1..3_u64).prop_map(|limit| Step::ClaimTogether { limit }),
        8 => (replica.clone(), fate.clone(), prop::bool::weighted(0.5))
            .prop_map(|(replica, fate, arrives)| Step::Work { replica, fate, arrives }),
        6 => (any::<Index>(), fate, prop::bool::weighted(0.7))
            .prop_map(|(which, fate, arrives)| Step::Call { which, fate, arrives }),
        3 => (any::<Index>(), prop::option::weighted(0.3, word()))
            .prop_map(|(which, word)| Step::Settle { which, word }),
        1 => Just(Step::SettleTogether),
        2 => any::<Index>().prop_map(|which| Step::Repeat { which }),
        2 => (replica, prop::bool::weighted(0.2)).prop_map(|(replica, all)| {
            if all { Step::Restart { replica } } else { Step::Crash { replica } }
        }),
    ]
}

fn word() -> impl Strategy<Value = Word> {
    select(vec![Word::Queued, Word::Sent, Word::End, Word::End, Word::AfterAll])
}

fn afterwards() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS;
    let sight = prop_oneof![
        4 => Just(Sight::Truth),
        3 => Just(Sight::Lagging),
        3 => select(vec![Sight::Unreadable, Sight::Several, Sight::Contested, Sight::Dies]),
    ];
    let seconds = prop_oneof![
        8 => 1..10_u64,
        4 => 15..20_u64,
        4 => 61..130_u64,
        2 => 600..4_000_u64,
        1 => 40_000..90_000_u64,
    ];
    prop_oneof![
        9 => (any::<Index>(), word(), replica.clone(), 1..4_usize, prop::bool::weighted(0.15))
            .prop_map(|(which, word, replica, times, parks)| Step::Report { which, word, replica, times, parks }),
        2 => (replica.clone(), prop::bool::weighted(0.3)).prop_map(|(replica, stray)| {
            if stray { Step::Stray { replica } } else { Step::RetryParked { replica } }
        }),
        2 => (replica.clone(), 1..4_u64, any::<bool>())
            .prop_map(|(replica, limit, ended)| Step::Poll { replica, limit, ended }),
        4 => seconds.prop_map(|seconds| Step::Advance { seconds }),
        3 => replica.clone().prop_map(|replica| Step::Rescue { replica }),
        2 => replica.clone().prop_map(|replica| Step::Recover { replica }),
        2 => (replica.clone(), sight.clone(), sight.clone())
            .prop_map(|(replica, one, other)| Step::LookInto { replica, sights: [one, other] }),
        4 => (replica, 1..4_u64, sight, prop::bool::weighted(0.3))
            .prop_map(|(replica, limit, sight, later)| Step::Look { replica, limit, sight, later }),
        1 => any::<Index>().prop_map(|which| Step::TellSeen { which }),
    ]
}

fn people() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS;
    let patient = 0..PATIENTS.len();
    let subject = prop_oneof![patient.clone().prop_map(Subject::Patient), patient.clone().prop_map(Subject::AddressOf)];
    let channel = prop_oneof![2 => Just(Channel::Sms), 1 => Just(Channel::Email), 1 => Just(Channel::InApp)];
    prop_oneof![
        4 => send(),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(order, other)| Step::Twins { order, other }),
        2 => (any::<Index>(), replica, any::<bool>())
            .prop_map(|(order, replica, claiming)| Step::Cancel { order, replica, claiming }),
        6 => (any::<Index>(), prop::bool::weighted(0.8), prop::bool::weighted(0.3), prop::bool::weighted(0.2))
            .prop_map(|(which, lost, twins, old_key)| Step::Retry { which, lost, twins, old_key }),
        1 => (patient, prop::bool::weighted(0.4), 0..PHONES.len(), any::<bool>())
            .prop_map(|(which, inactive, phone, claiming)| Step::Patient { which, inactive, phone, claiming }),
        2 => (subject, channel, prop::bool::weighted(0.5), prop::bool::weighted(0.7))
            .prop_map(|(subject, channel, out, claiming)| Step::Consent { subject, channel, out, claiming }),
    ]
}

fn watch() -> impl Strategy<Value = Step> {
    let reader = 0..REPLICAS;
    prop_oneof![
        3 => (reader.clone(), 1..9_u64).prop_map(|(reader, limit)| Step::Read { reader, limit }),
        2 => (reader, 0..REPLICAS).prop_map(|(reader, replica)| Step::Reconnect { reader, replica }),
    ]
}
