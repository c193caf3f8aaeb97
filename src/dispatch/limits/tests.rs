#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use secrecy::SecretString;
use uuid::Uuid;

use super::*;
use crate::domain::{Class, EmailAddress, FailureReason, PhoneNumber, SmtpAccount, SmtpSecurity, TwilioAccount};

fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(1)
}

fn practice(name: &str) -> PracticeId {
    name.parse().unwrap()
}

fn twilio(sender: SmsSender) -> Account {
    let account_sid = "AC00000000000000000000000000000001".to_owned();
    Account::Twilio(TwilioAccount {
        username: account_sid.clone(),
        account_sid,
        password: SecretString::from("secret"),
        sender,
        pool_number: None,
    })
}

fn number(e164: &str) -> Account {
    twilio(SmsSender::Number(PhoneNumber::from_trusted(e164.into())))
}

fn relay() -> Account {
    Account::Smtp(SmtpAccount {
        host: "relay.example.com".into(),
        port: 587,
        security: SmtpSecurity::StartTls,
        credentials: None,
        from_address: EmailAddress::parse("hello@example.com").unwrap(),
        from_name: String::new(),
        reply_to: None,
        dkim: None,
        bounces_to: None,
    })
}

/// A delivery on its way through the limits, at times that the test chooses.
struct Case {
    limits: Limits,
    account: Account,
    practice: PracticeId,
    now: DateTime<Utc>,
    next: u128,
    gone: Vec<Gone>,
}

#[derive(Clone, Copy)]
struct Wish {
    class: Class,
    segments: u32,
    again: bool,
    parked: bool,
}

const NORMAL: Wish = Wish { class: Class::Normal, segments: 1, again: false, parked: false };

impl Case {
    fn new(rate: SmsRate, account: Account) -> Self {
        Self {
            limits: Limits::new(rate),
            account,
            practice: practice("north"),
            now: start(),
            next: 0,
            gone: Vec::new(),
        }
    }

    fn ask(&mut self, wish: Wish) -> (DeliveryId, Leave) {
        self.next += 1;
        let id = DeliveryId(Uuid::from_u128(self.next));
        let handover = Handover {
            practice: &self.practice,
            id,
            class: wish.class,
            account: &self.account,
            segments: wish.segments,
            again: wish.again,
            parked: wish.parked,
            now: self.now,
        };
        (id, self.limits.leave(&handover, &mut self.gone))
    }

    fn leaves(&mut self, wish: Wish) -> bool {
        self.ask(wish).1 == Leave::Now
    }

    /// Until when it waits.
    fn waits(&mut self, wish: Wish) -> (TimeDelta, Option<Failing>) {
        match self.ask(wish).1 {
            Leave::Later { at, failing } => (at - self.now, failing),
            Leave::Now => panic!("it may leave"),
        }
    }

    fn ended(&mut self, id: DeliveryId, health: Health) {
        self.limits.ended_of((self.practice.clone(), self.account.name()), id, health, self.now);
    }

    /// Sends one that ends in that way.
    fn send(&mut self, health: Health) {
        let (id, leave) = self.ask(NORMAL);
        assert_eq!(leave, Leave::Now);
        self.ended(id, health);
    }

    /// Sends as many that fail as close the account.
    fn fail(&mut self) {
        for _ in 0..4 {
            self.send(ill());
            self.pass(0.25);
        }
        self.send(ill());
    }

    fn pass(&mut self, seconds: f64) {
        self.now += super::seconds(seconds);
    }
}

fn ill() -> Health {
    ill_for(None)
}

fn ill_for(wait: Option<Duration>) -> Health {
    Health::Ill { failing: failing(), wait }
}

fn failing() -> Failing {
    Failing { reason: FailureReason::ProviderUnavailable, code: "http 503".into() }
}

#[test]
fn each_kind_of_sender_has_its_pace() {
    let service = twilio(SmsSender::MessagingService("MG00000000000000000000000000000001".into()));
    for (account, expected) in [
        (number("+12025550199"), Some(1.0)),
        (number("+18005550199"), Some(3.0)),
        (number("+18335550199"), Some(3.0)),
        (number("+18885550199"), Some(3.0)),
        (number("+18995550199"), Some(1.0)),
        // Free to call in North America only.
        (number("+448005550199"), Some(1.0)),
        (number("12345"), Some(10.0)),
        (number("123456"), Some(10.0)),
        (service.clone(), Some(10.0)),
        // What answers a patient comes from one number of the service, which has the pace of its kind.
        (service.clone().answering("MG00000000000000000000000000000001/+12025550111"), Some(1.0)),
        (service.clone().answering("MG00000000000000000000000000000002/+12025550111"), Some(10.0)),
        (relay(), None),
    ] {
        assert_eq!(SmsRate::Auto.of(&account), expected, "{}", account.sender());
    }
    assert_eq!(SmsRate::Segments(7.5).of(&service), Some(7.5));
    assert_eq!(SmsRate::Segments(7.5).of(&relay()), None);
    assert_eq!(SmsRate::Unlimited.of(&service), None);
}

#[test]
fn ten_seconds_worth_leaves_at_once_and_the_rest_in_its_time() {
    let mut case = Case::new(SmsRate::Auto, number("+12025550199"));
    assert!((0..5).all(|_| case.leaves(Wish { segments: 2, ..NORMAL })));
    // One after the other, each with room for its segments.
    for seconds in [1, 2, 3] {
        assert_eq!(case.waits(NORMAL), (TimeDelta::seconds(seconds), None));
    }
    case.pass(1.0);
    assert!(!case.leaves(NORMAL), "somebody new goes behind those who wait");
    assert!(case.leaves(Wish { parked: true, ..NORMAL }));
    assert!(!case.leaves(Wish { parked: true, ..NORMAL }));
}

#[test]
fn urgent_texts_overtake_those_that_wait() {
    let mut case = Case::new(SmsRate::Segments(1.0), number("+12025550199"));
    let urgent = Wish { class: Class::Urgent, ..NORMAL };
    assert!((0..10).all(|_| case.leaves(NORMAL)));
    for _ in 0..1_000 {
        case.waits(NORMAL);
    }
    assert_eq!(case.waits(urgent).0, TimeDelta::seconds(1));
    case.pass(1.0);
    let (wait, _) = case.waits(Wish { parked: true, ..NORMAL });
    assert!(wait <= TimeDelta::seconds(2), "whoever had to let it pass does not lose its place: {wait}");
    assert!(case.leaves(Wish { parked: true, ..urgent }));
}

#[test]
fn a_text_longer_than_the_bucket_leaves_when_it_is_full() {
    let mut case = Case::new(SmsRate::Segments(0.1), number("+12025550199"));
    assert!(case.leaves(Wish { segments: 4, ..NORMAL }));
    assert_eq!(case.waits(NORMAL).0, TimeDelta::seconds(40));
}

#[test]
fn two_senders_of_one_account_have_a_pace_each_and_two_practices_share_one() {
    let mut case = Case::new(SmsRate::Auto, number("+12025550199"));
    assert!((0..10).all(|_| case.leaves(NORMAL)) && !case.leaves(NORMAL));
    case.practice = practice("south");
    assert!(!case.leaves(NORMAL), "the provider knows one number");
    case.account = number("+12025550198");
    assert!(case.leaves(NORMAL));
}

#[test]
fn an_account_is_left_alone_after_five_failures_in_a_row() {
    let mut case = Case::new(SmsRate::Unlimited, number("+12025550199"));
    for _ in 0..2 {
        case.send(Health::Well);
        for _ in 0..4 {
            case.send(ill());
            case.pass(0.25);
        }
    }
    // Nothing was said: neither for it nor against it.
    case.send(Health::Unsaid);
    case.send(ill());
    assert_eq!(case.waits(NORMAL), (TimeDelta::seconds(2), Some(failing())));
    assert_eq!(case.waits(NORMAL).0, TimeDelta::milliseconds(2_010), "they do not all come back at once");

    case.practice = practice("south");
    assert!(case.leaves(NORMAL), "it stops the practice whose account it is, and no other");
}

#[test]
fn one_at_a_time_sees_whether_the_account_is_well_again() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    case.fail();
    for wait in [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
        case.pass(wait - 0.001);
        assert!(!case.leaves(NORMAL));
        case.pass(0.001);
        let (probe, leave) = case.ask(Wish { again: true, ..NORMAL });
        assert_eq!(leave, Leave::Now);
        assert!(!case.leaves(NORMAL), "never two at once");
        let before = DeliveryId(Uuid::from_u128(1));
        case.ended(before, Health::Well);
        assert!(!case.leaves(NORMAL), "a call that began before tells nothing");
        case.ended(probe, ill());
    }
    case.pass(60.0);
    let (probe, _) = case.ask(NORMAL);
    case.ended(probe, Health::Unsaid);
    let (probe, leave) = case.ask(NORMAL);
    assert_eq!(leave, Leave::Now, "a probe that was not begun leaves it to the next");
    case.ended(probe, Health::Well);
    assert!(case.leaves(NORMAL));
}

#[test]
fn a_probe_that_is_heard_of_no_more_is_replaced() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    case.fail();
    case.pass(2.0);
    assert!(case.leaves(NORMAL));
    case.pass(59.9);
    assert!(!case.leaves(NORMAL));
    case.pass(0.1);
    assert!(case.leaves(NORMAL));
}

#[test]
fn the_provider_says_how_long_it_wants_to_be_left_alone_up_to_a_quarter_of_an_hour() {
    for (wish, expected) in [(30, 30), (86_400, 900), (1, 2)] {
        let mut case = Case::new(SmsRate::Unlimited, relay());
        (0..20).for_each(|_| case.send(ill_for(Some(Duration::from_secs(wish)))));
        assert_eq!(case.waits(NORMAL).0, TimeDelta::seconds(expected));
    }
}

#[test]
fn an_account_that_is_well_again_is_not_asked_for_everything_at_once() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    case.fail();
    case.pass(2.0);
    case.send(Health::Well);
    let mut count = |seconds: f64| {
        let mut sent = 0;
        for _ in 0..100 {
            while sent < 1_000 && case.leaves(Wish { parked: true, ..NORMAL }) {
                sent += 1;
            }
            case.pass(seconds / 100.0);
        }
        sent
    };
    // Of a hundred a second: a tenth, doubling.
    let seconds: Vec<_> = (0..3).map(|_| count(1.0)).collect();
    for (sent, range) in seconds.iter().zip([10..=22, 20..=42, 40..=82]) {
        assert!(range.contains(sent), "{seconds:?}");
    }
    case.pass(0.4);
    assert!((0..1_000).all(|_| case.leaves(NORMAL)), "then it is as before");

    case.fail();
    case.pass(2.0);
    case.send(Health::Well);
    for _ in 0..4 {
        case.send(ill());
        case.pass(0.25);
    }
    assert!(case.leaves(NORMAL), "it may fail while it begins again");
    case.pass(0.1);
    case.send(ill());
    case.pass(0.1);
    assert!(!case.leaves(NORMAL), "but not five times in a row");
}

#[test]
fn an_account_that_fails_at_once_is_asked_twenty_times() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    (0..19).for_each(|_| case.send(ill()));
    assert!(case.leaves(NORMAL), "five in a row within a second mean nothing where hundreds of calls are under way");
    case.send(ill());
    assert!(!case.leaves(NORMAL));

    let mut case = Case::new(SmsRate::Unlimited, relay());
    let failing = Failing { reason: FailureReason::ProviderConfig, code: "535".into() };
    (0..5).for_each(|_| case.send(Health::Ill { failing: failing.clone(), wait: None }));
    assert!(!case.leaves(NORMAL), "a wrong password is wrong the sixth time, too");
}

#[test]
fn an_account_that_refuses_every_tenth_request_begins_again_at_once() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    case.fail();
    case.pass(2.0);
    case.send(Health::Well);
    for count in 0..400 {
        let (id, leave) = case.ask(Wish { parked: true, ..NORMAL });
        if leave == Leave::Now {
            case.ended(id, if count % 10 == 9 { ill() } else { Health::Well });
        }
        case.pass(0.01);
    }
    assert!((0..1_000).all(|_| case.leaves(NORMAL)));
}

#[test]
fn what_a_well_account_asks_for_again_is_not_held_against_it() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    let again = Wish { again: true, ..NORMAL };
    (0..50).for_each(|_| case.send(Health::Deferred));
    assert!((0..60).all(|_| case.leaves(again)), "fifty are paid for by those who were sent away");
    for _ in 0..4 {
        case.send(ill());
        case.pass(0.25);
    }
    case.send(Health::Deferred);
    case.send(ill());
    assert!(case.leaves(NORMAL), "the account answered");
}

#[test]
fn a_probe_whose_claim_failed_is_not_waited_for() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    case.fail();
    case.pass(2.0);
    case.gone.clear();
    assert!(case.leaves(NORMAL), "the probe");
    assert!(!case.leaves(NORMAL), "one at a time");
    let gone = std::mem::take(&mut case.gone);
    case.limits.came_back(gone);
    assert!(case.leaves(NORMAL), "another goes in its stead");
    assert!(!case.leaves(NORMAL), "one at a time");
}

#[test]
fn repeats_are_a_tenth_of_what_is_sent_first_and_a_few_more() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    let again = Wish { again: true, ..NORMAL };
    assert!((0..10).all(|_| case.leaves(again)), "an account that sends little may repeat all the same");
    let (wait, failing) = case.waits(again);
    assert_eq!((wait, failing), (TimeDelta::seconds(5), None));
    assert_eq!(case.waits(again).0, TimeDelta::seconds(6), "one after the other");
    assert!((0..20).all(|_| case.leaves(NORMAL)));
    assert!(case.leaves(again) && case.leaves(again) && !case.leaves(again));
    case.pass(60.0);
    assert!(case.leaves(again) && !case.leaves(again));
}

#[test]
fn a_repeat_that_finds_the_account_in_order_costs_nothing() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    let again = Wish { again: true, ..NORMAL };
    let mut ask = |health: Health| {
        let (id, leave) = case.ask(again);
        case.ended(id, health);
        assert_eq!(leave, Leave::Now);
        case.pass(0.1);
    };
    for _ in 0..100 {
        ask(Health::Well);
        ask(Health::Unsaid);
    }
    for _ in 0..9 {
        ask(ill());
        ask(Health::Well);
    }
    ask(ill());
    assert!(!case.leaves(again), "each that fails has to be paid for");
}

/// A provider that is away for ten minutes, while ten deliveries come each second: each is tried, and repeated, until it is there
/// again.
#[test]
fn an_outage_costs_few_calls_and_everything_goes_out_after_it() {
    let mut case = Case::new(SmsRate::Unlimited, relay());
    let mut waiting: std::collections::BTreeMap<(DateTime<Utc>, u32), (bool, bool)> = Default::default();
    let (outage, tick) = (600.0, 0.1);
    let (mut during, mut after, mut first_ten) = (0, 0, 0);
    for step in 0..12_000_u32 {
        let clock = f64::from(step) * tick;
        if clock < outage {
            waiting.insert((case.now, step), (false, false));
        }
        let due: Vec<_> = waiting.range(..=(case.now, u32::MAX)).map(|(key, value)| (*key, *value)).collect();
        for (key, (again, parked)) in due {
            waiting.remove(&key);
            match case.ask(Wish { again, parked, ..NORMAL }) {
                (id, Leave::Now) if clock < outage => {
                    during += 1;
                    case.ended(id, ill());
                    // The least that its back-off may be.
                    waiting.insert((case.now + super::seconds(tick), key.1), (true, false));
                }
                (id, Leave::Now) => {
                    after += 1;
                    first_ten += u32::from(clock < outage + 10.0);
                    case.ended(id, Health::Well);
                }
                (_, Leave::Later { at, .. }) => drop(waiting.insert((at, key.1), (again, true))),
            }
        }
        case.pass(tick);
    }
    assert_eq!((waiting.len(), after), (0, 6_000));
    // The contract allows 1.1 for each of them.
    assert!(during < 40, "{during} calls during the outage");
    assert!(first_ten <= 1_500, "{first_ten} calls in the first ten seconds");
}

#[derive(Clone, Debug)]
enum Step {
    Ask { class: usize, segments: u32, parked: bool },
    Pass(f64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize, 1..7_u32, any::<bool>()).prop_map(|(class, segments, parked)| Step::Ask { class, segments, parked }),
        1 => (0.0..8.0).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Over every span: no more than the bucket holds and the span adds.
    #[test]
    fn a_sender_never_exceeds_its_pace(rate in 0.5..20.0_f64, steps in proptest::collection::vec(step(), 1..200)) {
        let mut case = Case::new(SmsRate::Segments(rate), number("+12025550199"));
        let mut sent: Vec<(DateTime<Utc>, f64)> = Vec::new();
        for step in steps {
            match step {
                Step::Pass(seconds) => case.pass(seconds),
                Step::Ask { class, segments, parked } => {
                    let wish = Wish { class: Class::ALL[class], segments, again: false, parked };
                    match case.ask(wish).1 {
                        Leave::Now => sent.push((case.now, f64::from(segments))),
                        Leave::Later { at, failing } => prop_assert!(at > case.now && failing.is_none()),
                    }
                }
            }
        }
        for (from, (begin, _)) in sent.iter().enumerate() {
            let mut segments = 0.0;
            for (time, cost) in &sent[from..] {
                segments += cost;
                let span = (*time - *begin).as_seconds_f64();
                // One text may be longer than the bucket.
                prop_assert!(segments <= (rate * 10.0).max(6.0) + rate * span + 0.01, "{segments} in {span} s");
            }
        }
    }

    /// Whoever waits gets there: at the time it was given, or a bounded number of times later.
    #[test]
    fn everybody_in_line_leaves_about_when_they_were_told(count in 1..60_usize, urgent in 0..5_usize) {
        let mut case = Case::new(SmsRate::Segments(1.0), number("+12025550199"));
        let mut waiting = std::collections::BTreeMap::new();
        for n in 0..count {
            let class = if n < urgent { Class::Urgent } else { Class::Normal };
            waiting.insert((case.now, n), (Wish { class, ..NORMAL }, 0));
        }
        let mut left = 0;
        while let Some(((at, n), (wish, parks))) = waiting.pop_first() {
            case.now = case.now.max(at);
            match case.ask(wish).1 {
                Leave::Now => left += 1,
                Leave::Later { at, .. } => {
                    prop_assert!(parks < 3, "parked again and again");
                    waiting.insert((at, n), (Wish { parked: true, ..wish }, parks + 1));
                }
            }
        }
        prop_assert_eq!(left, count);
        let needed = (count as f64 - 10.0).max(0.0);
        prop_assert!((case.now - start()).as_seconds_f64() <= needed + 1.0);
    }
}
