//! Practices and patients.

use std::collections::BTreeSet;

use prost::Message;

use super::{
    check::{Check, locale, page_size, time_zone},
    etag, timestamp,
};
use crate::{
    domain::{EmailAddress, Patient, PatientId, Phi, PhoneNumber, Practice, Stored, legible, template::prefix_fault},
    grpc::proto,
    service::{
        Error, PatientQuery,
        directory::{PatientList, PatientListPage},
    },
};

/// A number without a country code is of here.
const REGION: &str = "US";
/// Most patients in one call.
const LONGEST_BATCH: usize = 500;
/// Most tags of a patient.
const MOST_TAGS: usize = 50;

/// A practice to store.
pub(crate) fn practice(practice: Option<proto::Practice>) -> Result<Practice, Error> {
    let mut check = Check::default();
    let practice = check.required("practice", practice, read_practice);
    check.finish(practice)
}

fn read_practice(check: &mut Check, practice: proto::Practice) -> Option<Practice> {
    let legal_name = check.required_name("legal_name", practice.legal_name, 200);
    check.legible("legal_name", legal_name.trim());
    let display_name = check.required_name("display_name", practice.display_name, 30);
    // It stands before text messages, unless the practice says otherwise.
    if let Some(fault) = prefix_fault(display_name.trim()) {
        check.expect("display_name", false, fault);
    }
    let phone = check.parsed_if_set("phone", &practice.phone, |text| PhoneNumber::parse(text, REGION));
    let time_zone = check.parsed("time_zone", &practice.time_zone, time_zone);
    let locale = check.parsed_if_set("locale", &practice.locale, locale).unwrap_or_else(|| "en-US".to_owned());
    let portal_url =
        if practice.portal_url.is_empty() { None } else { check.https("portal_url", &practice.portal_url) };
    let postal_address = check.seen_lines("postal_address", practice.postal_address, 500);
    check.legible("postal_address", &postal_address);
    let time_zone = time_zone?;
    Some(Practice { legal_name, display_name, phone, time_zone, locale, portal_url, postal_address })
}

/// A practice as it is stored.
pub(crate) fn shown_practice(id: String, stored: Stored<Practice>) -> proto::Practice {
    let practice = stored.value;
    proto::Practice {
        practice_id: id,
        legal_name: practice.legal_name,
        display_name: practice.display_name,
        phone: phone(practice.phone.as_ref()),
        time_zone: practice.time_zone.name().to_owned(),
        locale: practice.locale,
        portal_url: practice.portal_url.unwrap_or_default(),
        postal_address: practice.postal_address,
        update_time: Some(timestamp(stored.update_time)),
        etag: etag(stored.revision),
    }
}

/// Patients to store, each once.
pub(crate) fn patients(patients: Vec<proto::Patient>) -> Result<Vec<Patient>, Error> {
    let mut check = Check::default();
    check.count("patients", patients.len(), 1..=LONGEST_BATCH);
    let mut ids = BTreeSet::new();
    let patients: Vec<_> = check.each("patients", patients.into_iter().take(LONGEST_BATCH), |check, patient| {
        let patient = read_patient(check, patient)?;
        check.expect("patient_id", ids.insert(patient.id.clone()), "is there twice");
        Some(patient)
    });
    check.finish(patients.into_iter().collect())
}

fn read_patient(check: &mut Check, patient: proto::Patient) -> Option<Patient> {
    let id = check.parsed("patient_id", &patient.patient_id, str::parse::<PatientId>);
    // Records of patients are full of what was pasted into them: it is left out, and no reason to refuse five hundred others.
    let [first_name, last_name] = [patient.first_name, patient.last_name].map(|name| legible(&name));
    let first_name = Phi::new(check.required_line("first_name", first_name, 100));
    let last_name = Phi::new(check.line("last_name", last_name, 100));
    let email = check.parsed_if_set("email", &patient.email, EmailAddress::parse);
    let mobile_phone =
        check.parsed_if_set("mobile_phone", &patient.mobile_phone, |text| PhoneNumber::parse(text, REGION));
    let locale = check.parsed_if_set("locale", &patient.locale, locale);
    let time_zone = check.parsed_if_set("time_zone", &patient.time_zone, time_zone);
    let tags = tags(check, patient.tags);
    Some(Patient {
        id: id?,
        first_name,
        last_name,
        email,
        mobile_phone,
        locale,
        time_zone,
        portal_enabled: patient.portal_enabled,
        inactive: patient.inactive,
        tags,
    })
}

fn tags(check: &mut Check, tags: Vec<String>) -> BTreeSet<String> {
    check.count("tags", tags.len(), 0..=MOST_TAGS);
    let tags = tags.into_iter().take(MOST_TAGS).enumerate();
    tags.map(|(place, tag)| check.required_line(&format!("tags[{place}]"), tag, 64)).collect()
}

/// The one patient that a request names.
pub(crate) fn patient_id(text: &str) -> Result<PatientId, Error> {
    let mut check = Check::default();
    let id = check.parsed("patient_id", text, str::parse);
    check.finish(id)
}

/// A patient as it is stored.
pub(crate) fn shown_patient(stored: Stored<Patient>) -> proto::Patient {
    let patient = stored.value;
    proto::Patient {
        patient_id: patient.id.to_string(),
        first_name: patient.first_name.into_inner(),
        last_name: patient.last_name.into_inner(),
        email: patient.email.as_ref().map(EmailAddress::as_str).unwrap_or_default().to_owned(),
        mobile_phone: phone(patient.mobile_phone.as_ref()),
        locale: patient.locale.unwrap_or_default(),
        time_zone: patient.time_zone.map(|zone| zone.name().to_owned()).unwrap_or_default(),
        portal_enabled: patient.portal_enabled,
        inactive: patient.inactive,
        tags: patient.tags.into_iter().collect(),
        update_time: Some(timestamp(stored.update_time)),
    }
}

fn phone(phone: Option<&PhoneNumber>) -> String {
    phone.map(PhoneNumber::e164).unwrap_or_default().to_owned()
}

/// What a list of patients is asked for.
pub(crate) fn list(mut request: proto::ListPatientsRequest) -> Result<PatientList, Error> {
    let page_token = std::mem::take(&mut request.page_token);
    let limit = page_size(std::mem::take(&mut request.page_size), 20, 200);
    // Without size and token: what a page token is bound to.
    let canonical = Phi::new(request.encode_to_vec());
    let mut check = Check::default();
    let text = check.line("query", request.query, 254);
    let tags = tags(&mut check, request.tags);
    let text = check.finish(Some(text))?;
    let query = PatientQuery {
        email: EmailAddress::parse(&text).ok(),
        phone: PhoneNumber::parse(&text, REGION).ok(),
        text: Phi::new(text),
        tags,
        after: None,
        limit,
    };
    Ok(PatientList { query, page_token, canonical })
}

/// A page of patients.
pub(crate) fn page(page: PatientListPage) -> proto::ListPatientsResponse {
    proto::ListPatientsResponse {
        patients: page.patients.into_iter().map(shown_patient).collect(),
        next_page_token: page.next_page_token,
    }
}

#[cfg(test)]
mod tests;
