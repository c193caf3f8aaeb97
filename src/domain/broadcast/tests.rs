#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::*;
use crate::domain::{
    Choices, ConsentState, EmailAddress, Gates, Kind, Patient, PhoneNumber, PracticeSettings, QuietHours, SkipReason,
    SmsSender,
};

fn now() -> DateTime<Utc> {
    // Ten in the morning in New York.
    DateTime::parse_from_rfc3339("2026-03-02T15:00:00Z").unwrap().to_utc()
}

fn patient(id: &str) -> Patient {
    Patient {
        id: id.parse().unwrap(),
        first_name: Phi::new("Pat".into()),
        last_name: Phi::default(),
        email: Some(EmailAddress::parse("pat@example.com").unwrap()),
        mobile_phone: Some(PhoneNumber::parse("+12025550142", "US").unwrap()),
        locale: None,
        time_zone: None,
        portal_enabled: true,
        inactive: false,
        tags: BTreeSet::new(),
    }
}

fn settings() -> PracticeSettings {
    let mut settings = PracticeSettings::default();
    settings.sms.account_sid = "AC00000000000000000000000000000001".into();
    settings.sms.auth_token = Some("token".to_owned().into());
    settings.sms.sender = Some(SmsSender::Number(PhoneNumber::parse("+12025550199", "US").unwrap()));
    settings
}

/// Decides on `patient` at `now`, with these gates of SMS.
fn share(
    planner: &mut Planner<u8>,
    patient: &Patient,
    (settings, gates): (&PracticeSettings, Gates),
    at: DateTime<Utc>,
) -> Share {
    let (choices, gates) = (Choices::default(), BTreeMap::from([(Channel::Sms, gates)]));
    let regions = ["US".to_owned()];
    let grounds = Grounds {
        patient,
        choices: &choices,
        practice_zone: chrono_tz::America::New_York,
        settings,
        has_device: false,
        kind: Some(Kind::Announcement),
        requested: None,
        urgent: true,
        test: false,
        gates: &gates,
        duplicates: ChannelSet::NONE,
        sms_regions: &regions,
        not_before: at,
        expires_at: DateTime::<Utc>::MAX_UTC,
        now: at,
    };
    planner.share(&grounds, |channel| (channel == Channel::Sms).then_some(7))
}

fn texts() -> Planner<u8> {
    Planner::new(ChannelSet::NONE.with(Channel::Sms), now(), BTreeSet::new())
}

fn sms(share: &Share) -> &Decision {
    share.decisions.iter().find(|decision| decision.channel == Channel::Sms).unwrap()
}

#[test]
fn of_those_who_share_a_number_the_first_who_may_be_written_to_is() {
    let (settings, open) = (settings(), Gates::default());
    let out = Gates { patient: ConsentState::OptedOut, ..open };
    let mut planner = texts();
    let shares = [("ann", out), ("ben", open), ("cat", open)]
        .map(|(id, gates)| share(&mut planner, &patient(id), (&settings, gates), now()));
    let reasons = shares.each_ref().map(|share| sms(share).skip_reason);
    assert_eq!(reasons, [Some(SkipReason::OptedOut), None, Some(SkipReason::DuplicateAddress)]);
    // Nobody is asked about what the broadcast does not go over.
    assert!(shares.iter().all(|share| share.decisions.iter().filter(|decision| decision.considered).count() == 1));
}

#[test]
fn an_address_that_was_taken_before_is_a_duplicate_from_the_start() {
    let taken = BTreeSet::from([(Channel::Sms, 7)]);
    let mut planner = Planner::new(ChannelSet::NONE.with(Channel::Sms), now(), taken);
    let share = share(&mut planner, &patient("ann"), (&settings(), Gates::default()), now());
    assert_eq!(sms(&share).skip_reason, Some(SkipReason::DuplicateAddress));
}

#[test]
fn a_share_ends_a_day_after_it_might_have_gone_however_late_it_is_made() {
    let settings = settings();
    let made = |at| share(&mut texts(), &patient("ann"), (&settings, Gates::default()), at);
    let late = made(now() + TimeDelta::hours(23));
    assert_eq!((late.expire_time, sms(&late).skip_reason), (now() + TimeDelta::hours(24), None));
    let too_late = made(now() + TimeDelta::hours(24));
    assert_eq!(
        (too_late.expire_time, sms(&too_late).skip_reason),
        (now() + TimeDelta::hours(24), Some(SkipReason::Expired))
    );
}

#[test]
fn quiet_hours_hold_a_share_and_its_day_begins_after_them() {
    let clock = |hour| chrono::NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
    let settings = PracticeSettings { quiet_hours: QuietHours::new(clock(9), clock(11)), ..settings() };
    let held = share(&mut texts(), &patient("ann"), (&settings, Gates::default()), now());
    // It is not urgent, whatever the grounds said.
    let first = now() + TimeDelta::hours(1);
    assert_eq!((sms(&held).attempt_time, held.expire_time), (first, first + TimeDelta::hours(24)));
}

#[test]
fn counts_know_each_state_apart() {
    let mut counts = StateCounts::default();
    for (place, state) in (1..).zip(DeliveryState::ALL) {
        counts.add(state, place);
    }
    assert_eq!(DeliveryState::ALL.map(|state| counts.of(state)), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!((counts.total(), counts.is_zero()), (28, false));
    counts.add(DeliveryState::Pending, -1);
    assert_eq!(counts, StateCounts::new([0, 2, 3, 4, 5, 6, 7]));
}
