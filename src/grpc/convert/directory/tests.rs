#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn good_patient(id: &str) -> proto::Patient {
    proto::Patient { patient_id: id.into(), first_name: "Pat".into(), ..Default::default() }
}

fn good_practice() -> proto::Practice {
    proto::Practice {
        legal_name: "Acme Primary Care, LLC".into(),
        display_name: "Acme".into(),
        time_zone: "America/Chicago".into(),
        ..Default::default()
    }
}

fn faults<T>(result: Result<T, Error>) -> Vec<String> {
    match result.err() {
        Some(Error::FieldInvalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn practices_are_checked() {
    type Change = fn(&mut proto::Practice);
    let rows: [(&str, Change); 20] = [
        ("legal_name", |it| it.legal_name.clear()),
        ("legal_name", |it| it.legal_name = "x".repeat(201)),
        ("legal_name", |it| it.legal_name = "a\u{2067}b".into()),
        ("display_name", |it| it.display_name.clear()),
        ("display_name", |it| it.display_name = "x".repeat(31)),
        ("display_name", |it| it.display_name = "a\nb".into()),
        ("display_name", |it| it.display_name = "a\u{202e}b".into()),
        ("legal_name", |it| it.legal_name = "\u{3164}".into()),
        ("display_name", |it| it.display_name = ".".into()),
        ("display_name", |it| it.display_name = "STOP".into()),
        ("display_name", |it| it.display_name = "evil.zone/x".into()),
        ("postal_address", |it| it.postal_address = "\u{2800}\n.".into()),
        ("postal_address", |it| it.postal_address = "a\u{202e}b".into()),
        ("phone", |it| it.phone = "12".into()),
        ("time_zone", |it| it.time_zone.clear()),
        ("time_zone", |it| it.time_zone = "Chicago".into()),
        ("locale", |it| it.locale = "en_US".into()),
        ("portal_url", |it| it.portal_url = "http://example.com".into()),
        ("postal_address", |it| it.postal_address = "x".repeat(501)),
        ("postal_address", |it| it.postal_address = "a\tb".into()),
    ];
    for (field, change) in rows {
        let mut practice = good_practice();
        change(&mut practice);
        assert_eq!(faults(super::practice(Some(practice))), [format!("practice.{field}")]);
    }
    assert_eq!(faults(super::practice(None)), ["practice"]);
}

#[test]
fn a_practice_comes_back_as_it_was_stored() {
    let input = proto::Practice {
        phone: "(202) 555-0142".into(),
        postal_address: "1 Main St\nSpringfield".into(),
        portal_url: "https://portal.example.com/".into(),
        ..good_practice()
    };
    let value = practice(Some(input)).unwrap();
    let stored = Stored { value, update_time: chrono::DateTime::UNIX_EPOCH, revision: 7 };
    let shown = shown_practice("a".into(), stored);
    assert_eq!((shown.practice_id.as_str(), shown.etag.as_str(), shown.locale.as_str()), ("a", "7", "en-US"));
    assert_eq!((shown.phone.as_str(), shown.time_zone.as_str()), ("+12025550142", "America/Chicago"));
    assert_eq!(shown.postal_address, "1 Main St\nSpringfield");
    assert_eq!(shown.portal_url, "https://portal.example.com/");
}

#[test]
fn patients_are_checked() {
    type Change = fn(&mut proto::Patient);
    let rows: [(&str, Change); 13] = [
        ("patient_id", |it| it.patient_id.clear()),
        ("patient_id", |it| it.patient_id = "a b".into()),
        ("first_name", |it| it.first_name.clear()),
        ("first_name", |it| it.first_name = "x".repeat(101)),
        ("first_name", |it| it.first_name = "\u{202e}\u{200b}".into()),
        ("last_name", |it| it.last_name = "a\r\nBcc: b".into()),
        ("email", |it| it.email = "pat@".into()),
        ("mobile_phone", |it| it.mobile_phone = "555".into()),
        ("locale", |it| it.locale = "e n".into()),
        ("time_zone", |it| it.time_zone = "Here".into()),
        ("tags", |it| it.tags = (0..51).map(|tag| tag.to_string()).collect()),
        ("tags[0]", |it| it.tags = vec![String::new()]),
        ("tags[0]", |it| it.tags = vec!["x".repeat(65)]),
    ];
    for (field, change) in rows {
        let mut patient = good_patient("p1");
        change(&mut patient);
        assert_eq!(faults(patients(vec![good_patient("p0"), patient])), [format!("patients[1].{field}")]);
    }
}

#[test]
fn what_is_not_seen_is_no_part_of_what_a_patient_is_called() {
    let input =
        proto::Patient { first_name: "\u{feff}Pat\u{202e}".into(), last_name: "Do\u{ad}e".into(), ..good_patient("p") };
    let stored = patients(vec![input]).unwrap().remove(0);
    assert_eq!((stored.first_name.expose().as_str(), stored.last_name.expose().as_str()), ("Pat", "Doe"));
}

#[test]
fn a_call_brings_1_to_500_patients_each_once() {
    let many = |count: usize| (0..count).map(|id| good_patient(&id.to_string())).collect::<Vec<_>>();
    assert_eq!(faults(patients(Vec::new())), ["patients"]);
    assert_eq!(faults(patients(many(501))), ["patients"]);
    assert_eq!(patients(many(500)).unwrap().len(), 500);
    assert_eq!(faults(patients(vec![good_patient("p"), good_patient("p")])), ["patients[1].patient_id"]);
}

#[test]
fn faults_of_many_patients_are_told_together_up_to_twenty() {
    let bad = || proto::Patient { email: "pat".into(), mobile_phone: "1".into(), ..Default::default() };
    let found = faults(patients(vec![bad(), bad()]));
    assert_eq!(found.len(), 8);
    assert_eq!(found[7], "patients[1].mobile_phone");
    assert_eq!(faults(patients(vec![bad(); 500])).len(), 20);
}

#[test]
fn a_patient_comes_back_as_it_was_stored() {
    let input = proto::Patient {
        last_name: "Doe".into(),
        email: "pat@Example.com".into(),
        mobile_phone: "+1 202 555 0142".into(),
        tags: vec!["b".into(), "a".into()],
        portal_enabled: true,
        ..good_patient("p1")
    };
    let value = patients(vec![input]).unwrap().remove(0);
    let shown = shown_patient(Stored { value, update_time: chrono::DateTime::UNIX_EPOCH, revision: 1 });
    assert_eq!((shown.email.as_str(), shown.mobile_phone.as_str()), ("pat@example.com", "+12025550142"));
    assert_eq!((shown.first_name.as_str(), shown.last_name.as_str()), ("Pat", "Doe"));
    assert_eq!((shown.tags.join(","), shown.portal_enabled, shown.inactive), ("a,b".into(), true, false));
    assert!(shown.locale.is_empty() && shown.time_zone.is_empty());
}

fn search(query: &str, size: i32, token: &str) -> proto::ListPatientsRequest {
    proto::ListPatientsRequest {
        practice_id: "a".into(),
        query: query.into(),
        tags: Vec::new(),
        page_size: size,
        page_token: token.into(),
    }
}

#[test]
fn a_page_is_bound_to_everything_but_its_size_and_token() {
    let first = list(search("do", 0, "")).unwrap();
    let second = list(search("do", 1_000, "t")).unwrap();
    assert_eq!((first.query.limit, second.query.limit, second.page_token.as_str()), (20, 200, "t"));
    assert_eq!(first.canonical, second.canonical);
    assert_ne!(first.canonical, list(search("doe", 0, "")).unwrap().canonical);
}

#[test]
fn a_search_is_read_as_an_address_if_it_is_one() {
    let by_phone = list(search("(202) 555-0142", 0, "")).unwrap().query;
    assert_eq!(by_phone.phone.as_ref().map(PhoneNumber::e164), Some("+12025550142"));
    let by_mail = list(search("Pat@example.com", 0, "")).unwrap().query;
    assert!(by_mail.email.is_some() && by_mail.phone.is_none());
    assert_eq!(faults(list(search("a\nb", 0, ""))), ["query"]);
}
