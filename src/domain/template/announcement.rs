//! The wording of a broadcast: it goes out as written, with three tokens filled in for each recipient. What cannot be filled in
//! for everybody is refused while it is composed, and not when it is sent.

use super::{
    Active, Fault, OwnWording, Purpose, RenderError, Rendering, Template, TemplateError, TemplateRef, Token,
    TokenClass, Wording, render, sample,
};
use crate::domain::{
    Announcement, Channel, ChannelSet, Kind, Locale, Patient, Payload, Phi, Practice, PracticeSettings,
};

/// What it may hold.
const TOKENS: [Token; 3] = [Token::FirstName, Token::PracticeName, Token::PracticePhone];
/// The longest first name that a directory may have, in characters.
const LONGEST_NAME: usize = 100;
/// The longest subject of a mail, in bytes: its line must stay below 998 octets (RFC 5322, 2.1.1).
const LONGEST_SUBJECT: usize = 900;

static SHARE: Payload = Payload::Announcement;

/// A broadcast's wording, ready to be filled in.
#[derive(Debug)]
pub struct Announced(OwnWording);

impl Announced {
    /// As `announcement` has it, in the language of the practice.
    #[must_use]
    pub fn new(announcement: &Announcement, practice: &Practice) -> Self {
        let places = Channel::ALL.into_iter().map(|channel| {
            let at = TemplateRef {
                purpose: Purpose::Kind(Kind::Announcement),
                channel,
                locale: Locale::new(&practice.locale),
            };
            let subject = if channel == Channel::Sms { "" } else { announcement.subject.expose() };
            let text = announcement.body.expose().clone();
            let wording = Wording { subject: subject.to_owned(), text, ..Wording::default() };
            (at, Active::new(0, wording, Vec::new()))
        });
        Self(OwnWording::new(places))
    }

    /// What the share of `patient` is made from. `unsubscribe` is where the reader of a mail does that.
    #[must_use]
    pub fn for_one<'a>(
        &'a self,
        channel: Channel,
        (practice, settings): (&'a Practice, &'a PracticeSettings),
        patient: &'a Patient,
        unsubscribe: &'a str,
    ) -> Rendering<'a> {
        Rendering {
            channel,
            payload: &SHARE,
            custom_content: None,
            practice,
            patient,
            own: &self.0,
            sms_prefix: settings.sms_prefix(practice),
            // Whoever writes to everybody says nothing about anybody: it goes out as written, by whatever provider.
            phi_permitted: true,
            link: None,
            unsubscribe: Some(unsubscribe),
            test: false,
        }
    }
}

/// Somebody invented, who reads what nobody was named for.
#[must_use]
pub fn reader_of_samples(practice: &Practice) -> Option<Patient> {
    sample::reader(&practice.locale)
}

/// What is wrong with an announcement as it is written, whatever the practice and the channels: each with its field and a sentence
/// without any of its words.
#[must_use]
pub fn announcement_faults(announcement: &Announcement) -> Vec<(&'static str, String)> {
    let sources = [("subject", &announcement.subject), ("body", &announcement.body)];
    sources.into_iter().flat_map(|(field, source)| in_source(field, source.expose())).collect()
}

/// What is wrong with an announcement over `channels`, all of it: each with its field and a sentence without any of its words.
#[must_use]
pub fn announcement_problems(
    announcement: &Announcement,
    channels: ChannelSet,
    (practice, settings): (&Practice, &PracticeSettings),
) -> Vec<(&'static str, String)> {
    let mut found = announcement_faults(announcement);
    // What cannot be compiled cannot be rendered either.
    if !found.is_empty() {
        return found;
    }
    let Some(reader) = reader_of_samples(practice) else { return found };
    let announced = Announced::new(announcement, practice);
    // The one takes most bytes, the other most room in HTML and in JSON.
    let longest =
        ["\u{1D4E6}", "\""].map(|one| Patient { first_name: Phi::new(one.repeat(LONGEST_NAME)), ..reader.clone() });
    for channel in channels.iter() {
        let made = |patient: &Patient| render(&announced.for_one(channel, (practice, settings), patient, ""));
        let label = channel.label();
        let all: Vec<_> = longest.iter().map(made).collect();
        let subjects = all.iter().flatten().map(|content| content.subject.expose().len());
        if made(&reader) == Err(RenderError::Blank) {
            found.push(("body", format!("says nothing on {label} with its tokens filled in")));
        } else if all.iter().any(Result::is_err) {
            found.push(("body", format!("is too long for {label} with the longest first name")));
        } else if channel == Channel::Email && subjects.max() > Some(LONGEST_SUBJECT) {
            found
                .push(("subject", format!("must be at most {LONGEST_SUBJECT} bytes long with the longest first name")));
        }
    }
    found
}

/// Lines that cannot be compiled, and tokens that a broadcast has no value for.
fn in_source(field: &'static str, source: &str) -> Vec<(&'static str, String)> {
    let faults = Template::faults(source, TokenClass::ALL, &[]);
    let [first, second, third] = TOKENS.map(Token::name);
    let known = format!("may have {{{{{first}}}}}, {{{{{second}}}}} and {{{{{third}}}}}");
    if !faults.is_empty() {
        let told = |it: TemplateError| match it.fault {
            Fault::Unknown => format!("{it}: it {known}"),
            _ => it.to_string(),
        };
        return faults.into_iter().map(|fault| (field, told(fault))).collect();
    }
    let Ok(template) = Template::compile(source, TokenClass::ALL, &[]) else { return Vec::new() };
    let others = Token::ALL.iter().filter(|token| !TOKENS.contains(token) && template.names(token.name()));
    others.map(|token| (field, format!("{known}, and not {{{{{}}}}}", token.name()))).collect()
}

#[cfg(test)]
mod tests;
