#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use chrono::{NaiveTime, TimeDelta};

use super::*;
use crate::domain::{
    EmailAddress, EmailProvider, EmailSettings, KindChannels, Phi, PhoneNumber, QuietHours, ServiceAccount, SmsSender,
    SmsSettings, SmtpSecurity, SmtpSettings,
};

/// What a case says about the patient's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    None,
    Abroad,
    Dead,
    Good,
}

/// A world, in plain lists: the model below must not lean on the sets that it checks.
#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    inactive: bool,
    default: Vec<Channel>,
    offer: Option<Vec<Channel>>,
    choice: Option<Vec<Channel>>,
    request: Option<Vec<Channel>>,
    patient: ConsentState,
    address: ConsentState,
    demanded: bool,
    to: Address,
    duplicate: bool,
    set_up: bool,
    urgent: bool,
    quiet: bool,
    /// Minutes from now; quiet hours last for another hour.
    due: i64,
    end: i64,
}

impl Case {
    /// Whoever has an address has a device as well.
    fn has_device(&self) -> bool {
        self.to != Address::None
    }

    /// Nothing speaks against anything.
    fn good() -> Self {
        Self {
            kind: Kind::AppointmentReminder,
            inactive: false,
            default: vec![Channel::InApp, Channel::Email, Channel::Sms],
            offer: None,
            choice: None,
            request: None,
            patient: ConsentState::Unknown,
            address: ConsentState::Unknown,
            demanded: false,
            to: Address::Good,
            duplicate: false,
            set_up: true,
            urgent: false,
            quiet: false,
            due: 0,
            end: 600,
        }
    }
}

/// What the contract's text says of a case: whether the channel is considered, and the first rule that refuses it.
fn model(case: &Case, channel: Channel) -> (bool, Option<SkipReason>) {
    let has = |list: &[Channel]| list.contains(&channel);
    let set_up = |channel: Channel| match channel {
        Channel::InApp => true,
        Channel::Email | Channel::Sms | Channel::Push => case.set_up,
    };
    let offered =
        |channel: &Channel| case.offer.as_ref().map_or_else(|| set_up(*channel), |offer| offer.contains(channel));
    let kept: Option<Vec<Channel>> =
        case.choice.as_ref().map(|choice| choice.iter().copied().filter(offered).collect());
    let choice = match (&case.choice, kept) {
        (Some(made), Some(kept)) if made.is_empty() || !kept.is_empty() => Some(kept),
        _ => None,
    };
    let of_practice = match (case.kind, &case.request) {
        (Kind::Announcement, Some(named)) => named.clone(),
        (Kind::Announcement, None) => Vec::new(),
        _ => case.default.clone(),
    };
    let effective = choice.clone().unwrap_or_else(|| of_practice.clone());
    let considered = has(case.request.as_ref().unwrap_or(&effective));

    let text = channel == Channel::Sms;
    let no_address = match channel {
        Channel::InApp => false,
        Channel::Email => case.to == Address::None || case.to == Address::Abroad,
        Channel::Sms => case.to == Address::None,
        Channel::Push => !case.has_device(),
    };
    let first =
        if case.quiet && !case.urgent && (text || channel == Channel::Push) { case.due.max(60) } else { case.due };
    let rules = [
        (SkipReason::PatientInactive, case.inactive),
        (SkipReason::ChannelOffForKind, choice.is_none() && !has(&of_practice)),
        (SkipReason::NotPreferred, choice.as_ref().is_some_and(|choice| !has(choice))),
        (SkipReason::OptedOut, case.patient == ConsentState::OptedOut || case.address == ConsentState::OptedOut),
        (SkipReason::NoConsent, case.demanded && case.patient != ConsentState::OptedIn),
        (SkipReason::NoAddress, no_address),
        (SkipReason::AddressNotAllowed, text && case.to == Address::Abroad),
        (SkipReason::AddressSuppressed, case.to == Address::Dead),
        (SkipReason::DuplicateAddress, case.duplicate),
        (SkipReason::ChannelNotConfigured, !set_up(channel)),
        (SkipReason::Expired, case.end <= first),
    ];
    (considered, rules.into_iter().find(|(_, refuses)| *refuses).map(|(rule, _)| rule))
}

/// The clock stands at half past ten in the evening in New York.
fn now() -> DateTime<Utc> {
    "2026-03-03T03:30:00Z".parse().unwrap()
}

fn patient(case: &Case) -> Patient {
    let phone = |text| Some(PhoneNumber::parse(text, "US").unwrap());
    let (email, mobile_phone) = match case.to {
        Address::None => (None, None),
        // Kingston.
        Address::Abroad => (None, phone("+18765550142")),
        Address::Dead | Address::Good => (Some(EmailAddress::parse("pat@example.com").unwrap()), phone("+12025550142")),
    };
    Patient {
        id: "pat".parse().unwrap(),
        first_name: Phi::new("Pat".into()),
        last_name: Phi::new(String::new()),
        email,
        mobile_phone,
        locale: None,
        time_zone: None,
        portal_enabled: true,
        inactive: case.inactive,
        tags: BTreeSet::new(),
    }
}

fn settings(case: &Case) -> PracticeSettings {
    let set = |channels: &Vec<Channel>| channels.iter().copied().collect::<ChannelSet>();
    let mut settings = PracticeSettings::default();
    let channels = if case.kind == Kind::Announcement { ChannelSet::NONE } else { set(&case.default) };
    settings.kind_channels.insert(case.kind, KindChannels { channels, offered: case.offer.as_ref().map(set) });
    if case.demanded {
        settings.opt_in_channels = ChannelSet::ALL;
    }
    if case.quiet {
        let time = |hours, minutes| NaiveTime::from_hms_opt(hours, minutes, 0).unwrap();
        settings.quiet_hours = QuietHours::new(time(21, 0), time(23, 30));
    }
    if case.set_up {
        settings.sms = SmsSettings {
            account_sid: "AC00000000000000000000000000000001".into(),
            auth_token: Some("token".to_owned().into()),
            sender: Some(SmsSender::MessagingService("MG00000000000000000000000000000001".into())),
            ..SmsSettings::default()
        };
        let relay = SmtpSettings {
            host: "relay.example.com".into(),
            port: 587,
            security: Some(SmtpSecurity::Tls),
            ..SmtpSettings::default()
        };
        settings.push.service_account = Some(ServiceAccount {
            project_id: "acme".into(),
            client_email: "push@acme.iam.gserviceaccount.com".into(),
            private_key: String::new().into(),
        });
        settings.email = EmailSettings {
            provider: Some(EmailProvider::Smtp(relay)),
            from_address: Some(EmailAddress::parse("hello@acme.example").unwrap()),
            ..EmailSettings::default()
        };
    }
    settings
}

fn decided(case: &Case, channels: &[Channel]) -> Vec<Decision> {
    let (patient, settings, regions) = (patient(case), settings(case), ["US".to_owned()]);
    decided_on(case, Some(case.kind), (&patient, &settings, &regions), channels)
}

fn decided_on(
    case: &Case,
    kind: Option<Kind>,
    (patient, settings, sms_regions): (&Patient, &PracticeSettings, &[String]),
    channels: &[Channel],
) -> Vec<Decision> {
    let mut choices = Choices::default();
    choices.set(case.kind, case.choice.as_ref().map(|choice| choice.iter().copied().collect()));
    let suppressed = (case.to == Address::Dead).then_some(FailureReason::InvalidAddress);
    let gates = Gates { patient: case.patient, address: case.address, suppressed };
    let gates = Channel::ALL.map(|channel| (channel, gates)).into();
    let grounds = Grounds {
        patient,
        choices: &choices,
        practice_zone: chrono_tz::America::New_York,
        settings,
        has_device: case.has_device(),
        kind,
        requested: case.request.as_ref().map(|request| request.iter().copied().collect()),
        urgent: case.urgent,
        test: false,
        gates: &gates,
        duplicates: if case.duplicate { ChannelSet::ALL } else { ChannelSet::NONE },
        sms_regions,
        not_before: now() + TimeDelta::minutes(case.due),
        expires_at: now() + TimeDelta::minutes(case.end),
        now: now(),
    };
    channels.iter().map(|channel| grounds.decide(*channel)).collect()
}

fn agrees(case: &Case, decision: &Decision) {
    let (considered, reason) = model(case, decision.channel);
    assert_eq!((decision.considered, decision.skip_reason), (considered, reason), "{:?} in {case:?}", decision.channel);
    // The trace is in the order of the rules, and ends with the one that refused.
    assert!(
        decision.steps.is_sorted_by_key(|step| step.rule) && decision.steps.iter().all(|step| !step.detail.is_empty())
    );
    let refused: Vec<_> = decision.steps.iter().filter(|step| step.outcome == Outcome::Refused).collect();
    assert_eq!(refused.iter().map(|step| step.rule).collect::<Vec<_>>(), Vec::from_iter(reason), "{case:?}");
    assert!(reason.is_none() || decision.steps.last().map(|step| step.rule) == reason, "{case:?}");
}

/// Every list of channels from these, in order.
fn lists(of: &[Channel]) -> Vec<Vec<Channel>> {
    (0..1_usize << of.len())
        .map(|bits| of.iter().enumerate().filter(|(place, _)| bits & 1 << place != 0).map(|(_, it)| *it).collect())
        .collect()
}

fn some_or_none(lists: Vec<Vec<Channel>>) -> Vec<Option<Vec<Channel>>> {
    std::iter::once(None).chain(lists.into_iter().map(Some)).collect()
}

const CONSENTS: [ConsentState; 3] = [ConsentState::Unknown, ConsentState::OptedIn, ConsentState::OptedOut];

/// The practice's side: its default, and every offer that holds all of it.
fn practices() -> Vec<(Vec<Channel>, Option<Vec<Channel>>)> {
    let some = [Channel::Email, Channel::Sms, Channel::Push];
    let mut practices = Vec::new();
    for default in lists(&some) {
        let offers = lists(&some).into_iter().filter(|offer| !offer.is_empty());
        let offers = offers.filter(|offer| default.iter().all(|channel| offer.contains(channel))).collect();
        practices.extend(some_or_none(offers).into_iter().map(|offer| (default.clone(), offer)));
    }
    practices
}

type Channels = Option<Vec<Channel>>;

/// Wishes: what the patient chose, and what the sender asks for.
fn wishes() -> Vec<(Channels, Channels)> {
    let some = [Channel::Email, Channel::Sms, Channel::Push];
    let requests = some_or_none(lists(&some).into_iter().filter(|list| !list.is_empty()).collect());
    let choices = some_or_none(lists(&some));
    choices.iter().flat_map(|choice| requests.iter().map(|request| (choice.clone(), request.clone()))).collect()
}

/// What is on record about consent, and whether the practice demands an opt-in.
fn records() -> Vec<(ConsentState, ConsentState, bool)> {
    let of = |patient| CONSENTS.into_iter().flat_map(move |address| [false, true].map(|it| (patient, address, it)));
    CONSENTS.into_iter().flat_map(of).collect()
}

#[test]
fn default_offer_choice_request_consent_and_address_decide_as_the_contract_says() {
    let wishes = wishes();
    let mut seen = BTreeSet::new();
    for (default, offer) in practices() {
        for (patient, address, demanded) in records() {
            for to in [Address::None, Address::Abroad, Address::Dead, Address::Good] {
                let case = Case {
                    default: default.clone(),
                    offer: offer.clone(),
                    patient,
                    address,
                    demanded,
                    to,
                    ..Case::good()
                };
                // What the wishes do not change is made once, as parsing a number takes its time.
                let world = (&self::patient(&case), &settings(&case), &["US".to_owned()][..]);
                for (choice, request) in &wishes {
                    let case = Case { choice: choice.clone(), request: request.clone(), ..case.clone() };
                    // A number is looked up in the numbering plan: where it decides on nothing new, once is enough.
                    let over = if to == Address::Good {
                        &[Channel::Email, Channel::Push][..]
                    } else {
                        &[Channel::Email, Channel::Sms]
                    };
                    for decision in decided_on(&case, Some(case.kind), world, over) {
                        agrees(&case, &decision);
                        seen.insert(decision.skip_reason);
                    }
                }
            }
        }
    }
    // Nothing that these could lead to was left out.
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn a_good_number_decides_as_the_contract_says() {
    let wishes = wishes();
    for (default, offer) in practices() {
        for (choice, request) in &wishes {
            let case = Case {
                default: default.clone(),
                offer: offer.clone(),
                choice: choice.clone(),
                request: request.clone(),
                ..Case::good()
            };
            agrees(&case, &decided(&case, &[Channel::Sms])[0]);
        }
    }
}

#[test]
fn what_comes_after_consent_decides_as_the_contract_says() {
    let flags = [false, true];
    let mut seen = BTreeSet::new();
    let kinds = [Kind::AppointmentReminder, Kind::Announcement];
    let requests = [None, Some(vec![Channel::InApp]), Some(vec![Channel::Email, Channel::Sms])];
    for (kind, to) in kinds.into_iter().flat_map(|kind| [Address::None, Address::Good].map(|to| (kind, to))) {
        for (inactive, duplicate, set_up) in
            flags.into_iter().flat_map(|a| flags.into_iter().flat_map(move |b| flags.map(|c| (a, b, c))))
        {
            for (urgent, quiet) in flags.into_iter().flat_map(|urgent| flags.map(|quiet| (urgent, quiet))) {
                // Due now, within the quiet hour and after it; over before, at and after each of these.
                for (due, end) in
                    [0, 30, 60, 90].into_iter().flat_map(|due| [0, 30, 31, 60, 61, 90, 91].map(|end| (due, end)))
                {
                    for request in &requests {
                        let case = Case {
                            kind,
                            to,
                            inactive,
                            duplicate,
                            set_up,
                            urgent,
                            quiet,
                            due,
                            end,
                            request: request.clone(),
                            ..Case::good()
                        };
                        let over = [Channel::InApp, Channel::Email, Channel::Push];
                        let over = if inactive || duplicate { &over[..] } else { &Channel::ALL };
                        for decision in decided(&case, over) {
                            agrees(&case, &decision);
                            seen.insert(decision.skip_reason);
                            let held = quiet && !urgent && matches!(decision.channel, Channel::Sms | Channel::Push);
                            let first = if held { due.max(60) } else { due };
                            assert_eq!(decision.attempt_time, now() + TimeDelta::minutes(first), "{case:?}");
                            let last = decision.steps.last().unwrap();
                            if decision.skip_reason.is_none() {
                                assert_eq!(last.outcome == Outcome::Held, first > 0, "{case:?}");
                                assert_eq!(
                                    last.detail.contains("Quiet hours last until 23:30"),
                                    first > due,
                                    "{case:?}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}

#[test]
fn whatever_changes_a_rule_shows_in_the_trace() {
    let good = Case { request: Some(vec![Channel::Sms]), ..Case::good() };
    let cases = [
        Case { inactive: true, ..good.clone() },
        Case { default: vec![Channel::Email], ..good.clone() },
        Case { choice: Some(vec![Channel::Email, Channel::Sms]), ..good.clone() },
        Case { choice: Some(vec![Channel::Email]), ..good.clone() },
        Case { patient: ConsentState::OptedOut, ..good.clone() },
        Case { address: ConsentState::OptedOut, ..good.clone() },
        Case { demanded: true, ..good.clone() },
        Case { demanded: true, patient: ConsentState::OptedIn, ..good.clone() },
        Case { to: Address::None, ..good.clone() },
        Case { to: Address::Abroad, ..good.clone() },
        Case { to: Address::Dead, ..good.clone() },
        Case { duplicate: true, ..good.clone() },
        Case { set_up: false, ..good.clone() },
        Case { quiet: true, ..good.clone() },
        Case { quiet: true, end: 60, ..good.clone() },
        Case { due: 5, ..good.clone() },
        Case { end: 0, ..good.clone() },
    ];
    let traces: Vec<_> =
        std::iter::once(&good).chain(&cases).map(|case| decided(case, &[Channel::Sms])[0].steps.clone()).collect();
    for (place, trace) in traces.iter().enumerate() {
        assert!(!traces[..place].contains(trace), "as before: {trace:?}");
        // It is shown to staff, and kept: nobody's address is in it.
        assert!(trace.iter().all(|step| !step.detail.contains("2025550142") && !step.detail.contains("8765550142")));
    }
}

#[test]
fn quiet_hours_are_those_of_the_patient_if_their_clock_is_known() {
    let case = Case { quiet: true, ..Case::good() };
    let at = |time_zone| {
        let patient = Patient { time_zone, ..patient(&case) };
        let (settings, regions) = (settings(&case), ["US".to_owned()]);
        decided_on(&case, Some(case.kind), (&patient, &settings, &regions), &[Channel::Sms])[0].attempt_time - now()
    };
    assert_eq!(at(None), TimeDelta::hours(1));
    assert_eq!(at(Some(chrono_tz::America::Chicago)), TimeDelta::hours(2));
    // Half past seven.
    assert_eq!(at(Some(chrono_tz::America::Los_Angeles)), TimeDelta::zero());
}

#[test]
fn the_consent_in_force_is_the_patients_unless_the_address_was_opted_out() {
    for patient in CONSENTS {
        for address in CONSENTS {
            let gates = Gates { patient, address, suppressed: None };
            let expected = if address == ConsentState::OptedOut { address } else { patient };
            assert_eq!(gates.consent(), expected);
        }
    }
}

/// Whoever tests is no patient: what patients and practices wish for patients does not count, and all else does.
#[test]
fn a_test_is_held_to_its_address_and_account_alone() {
    let patient_rules =
        [SkipReason::PatientInactive, SkipReason::ChannelOffForKind, SkipReason::NotPreferred, SkipReason::NoConsent];
    let patient = Patient {
        id: "test:1".parse().unwrap(),
        first_name: Default::default(),
        last_name: Default::default(),
        email: None,
        mobile_phone: Some(crate::domain::PhoneNumber::parse("+12025550160", "").unwrap()),
        locale: None,
        time_zone: None,
        portal_enabled: false,
        inactive: true,
        tags: Default::default(),
    };
    let settings = PracticeSettings { opt_in_channels: ChannelSet::ALL, ..PracticeSettings::default() };
    for (address, expected) in
        [(ConsentState::Unknown, SkipReason::ChannelNotConfigured), (ConsentState::OptedOut, SkipReason::OptedOut)]
    {
        let gates = BTreeMap::from([(Channel::Sms, Gates { address, ..Gates::default() })]);
        let grounds = Grounds {
            patient: &patient,
            choices: &Choices::default(),
            practice_zone: chrono_tz::America::New_York,
            settings: &settings,
            has_device: false,
            kind: Some(Kind::AppointmentReminder),
            requested: None,
            urgent: true,
            test: true,
            gates: &gates,
            duplicates: ChannelSet::NONE,
            sms_regions: &["US".to_owned()],
            not_before: now(),
            expires_at: now() + TimeDelta::minutes(10),
            now: now(),
        };
        let decision = grounds.decide(Channel::Sms);
        assert_eq!(decision.skip_reason, Some(expected));
        assert!(decision.steps.iter().all(|step| !patient_rules.contains(&step.rule)));
        let reminded = Grounds { test: false, ..grounds }.decide(Channel::Sms);
        assert_eq!(reminded.skip_reason, Some(SkipReason::PatientInactive));
    }
}

#[test]
fn what_staff_write_asks_every_rule_but_those_about_kinds() {
    let about_kinds = [SkipReason::ChannelOffForKind, SkipReason::NotPreferred];
    // Whatever the practice and the patient chose for some kind.
    let good =
        Case { default: Vec::new(), choice: Some(Vec::new()), request: Some(vec![Channel::Sms]), ..Case::good() };
    for (case, expected) in [
        (good.clone(), None),
        (Case { inactive: true, ..good.clone() }, Some(SkipReason::PatientInactive)),
        (Case { address: ConsentState::OptedOut, ..good.clone() }, Some(SkipReason::OptedOut)),
        (Case { patient: ConsentState::OptedOut, ..good.clone() }, Some(SkipReason::OptedOut)),
        (Case { demanded: true, ..good.clone() }, Some(SkipReason::NoConsent)),
        (Case { to: Address::None, ..good.clone() }, Some(SkipReason::NoAddress)),
        (Case { to: Address::Abroad, ..good.clone() }, Some(SkipReason::AddressNotAllowed)),
        (Case { to: Address::Dead, ..good.clone() }, Some(SkipReason::AddressSuppressed)),
        (Case { set_up: false, ..good }, Some(SkipReason::ChannelNotConfigured)),
    ] {
        let (patient, settings, regions) = (patient(&case), settings(&case), ["US".to_owned()]);
        let decisions = decided_on(&case, None, (&patient, &settings, &regions), &[Channel::Sms]);
        assert_eq!((decisions[0].considered, decisions[0].skip_reason), (true, expected), "{case:?}");
        assert!(decisions[0].steps.iter().all(|step| !about_kinds.contains(&step.rule)));
    }
}
