//! The tokens that wording may hold, what each gives away, and the one table of which channel may hold what. A value
//! reaches a template only if its class is permitted there.

use std::{collections::BTreeMap, fmt};

use super::blank::is_blank;
use crate::domain::{Channel, Kind, is_hidden};

/// How much a token gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenClass {
    /// The practice, the patient's first name, what they are asked to do, and the link.
    Open,
    /// When a visit is.
    VisitTime,
    /// Amounts, providers, places, names of documents, the text of notices.
    Detail,
    /// What the sender typed, be it beside the wording or as the variables of a practice's own template. Our wording has it in
    /// the portal and in full mail only; a practice's own may ask for it elsewhere.
    SenderWords,
}

impl TokenClass {
    /// Every class.
    pub const ALL: &[Self] = &[Self::Open, Self::VisitTime, Self::Detail, Self::SenderWords];
}

/// A place for wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// The portal.
    InApp,
    /// Mail through a provider that may carry health information.
    Email,
    /// Mail through any other.
    MinimalEmail,
    /// A text message.
    Sms,
    /// A lock screen.
    Push,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 5] = [Self::InApp, Self::Email, Self::MinimalEmail, Self::Sms, Self::Push];

    /// The form of wording on `channel`, where mail may carry health information or not.
    #[must_use]
    pub const fn of(channel: Channel, phi_permitted: bool) -> Self {
        match channel {
            Channel::InApp => Self::InApp,
            Channel::Email if phi_permitted => Self::Email,
            Channel::Email => Self::MinimalEmail,
            Channel::Sms => Self::Sms,
            Channel::Push => Self::Push,
        }
    }

    /// What the text may hold (45 CFR 164.502(b), minimum necessary).
    #[must_use]
    pub const fn text_classes(self) -> &'static [TokenClass] {
        use TokenClass::{Open, SenderWords, VisitTime};
        match self {
            Self::InApp | Self::Email => TokenClass::ALL,
            Self::MinimalEmail => &[Open],
            Self::Sms => &[Open, VisitTime, SenderWords],
            Self::Push => &[Open, SenderWords],
        }
    }

    /// What the subject may hold: outside the portal it is seen on lock screens and kept in the logs of mail servers.
    #[must_use]
    pub const fn subject_classes(self) -> &'static [TokenClass] {
        match self {
            Self::InApp => self.text_classes(),
            Self::Email | Self::MinimalEmail | Self::Sms | Self::Push => &[TokenClass::Open],
        }
    }
}

macro_rules! tokens {
    ($($(#[$doc:meta])* $variant:ident $name:literal $class:ident)*) => {
        /// A place in wording that a value is put in, written `{{first_name}}`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Token {
            $($(#[$doc])* $variant,)*
        }

        impl Token {
            /// Every token.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in a template.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// How much it gives away.
            #[must_use]
            pub const fn class(self) -> TokenClass {
                match self {
                    $(Self::$variant => TokenClass::$class,)*
                }
            }
        }
    };
}

tokens! {
    /// The patient's first name.
    FirstName "first_name" Open
    /// The practice's short name.
    PracticeName "practice_name" Open
    /// The practice's legal name.
    LegalName "legal_name" Open
    /// The practice's number, as people write it.
    PracticePhone "practice_phone" Open
    /// The practice's postal address.
    PostalAddress "postal_address" Open
    /// The one address to open.
    Link "link" Open
    /// "a document to sign", "3 documents to review".
    DocumentTask "document_task" Open
    /// "Sign" or "Review".
    DocumentVerb "document_verb" Open
    /// "Document" or "Documents".
    DocumentNoun "document_noun" Open
    /// "Account Update" or "Security Alert".
    NoticeKind "notice_kind" Open
    /// "an account update" or "a security alert".
    NoticeTask "notice_task" Open
    /// When the visit begins.
    VisitTime "visit_time" VisitTime
    /// How long the visit takes.
    VisitLength "visit_length" VisitTime
    /// Who will see the patient.
    ProviderName "provider_name" Detail
    /// Where the visit is.
    LocationName "location_name" Detail
    /// How to get there.
    LocationAddress "location_address" Detail
    /// How much.
    Amount "amount" Detail
    /// Which invoice.
    InvoiceNumber "invoice_number" Detail
    /// The day that a payment is due, was made, or was refused.
    PaymentDate "payment_date" Detail
    /// "Visa 4242".
    PaymentMethod "payment_method" Detail
    /// Who wrote the message.
    SenderName "sender_name" Detail
    /// The titles of the documents.
    DocumentTitles "document_titles" Detail
    /// Until when the documents are wanted.
    DocumentDue "document_due" Detail
    /// The title of a notice.
    NoticeTitle "notice_title" Detail
    /// The text of a notice.
    NoticeBody "notice_body" Detail
    /// What the sender typed.
    CustomContent "custom_content" SenderWords
}

impl Token {
    /// The token of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|token| token.name() == name)
    }

    /// Whether a message of `kind` can have a value for it.
    #[must_use]
    pub const fn fits(self, kind: Kind) -> bool {
        match self {
            Self::FirstName
            | Self::PracticeName
            | Self::LegalName
            | Self::PracticePhone
            | Self::PostalAddress
            | Self::Link
            | Self::CustomContent => true,
            Self::DocumentTask | Self::DocumentVerb | Self::DocumentNoun | Self::DocumentTitles | Self::DocumentDue => {
                matches!(kind, Kind::DocumentShared)
            }
            Self::NoticeKind | Self::NoticeTask | Self::NoticeTitle | Self::NoticeBody => matches!(kind, Kind::System),
            Self::VisitTime | Self::VisitLength | Self::ProviderName | Self::LocationName | Self::LocationAddress => {
                matches!(kind, Kind::AppointmentReminder | Kind::AppointmentConfirmed | Kind::AppointmentCancelled)
            }
            Self::Amount | Self::InvoiceNumber | Self::PaymentDate | Self::PaymentMethod => {
                matches!(kind, Kind::PaymentDue | Kind::PaymentReceived | Kind::PaymentFailed)
            }
            Self::SenderName => matches!(kind, Kind::MessageReceived),
        }
    }

    /// Whether a message is about it: one that lost it with a line that had no value for something else would say nothing.
    #[must_use]
    pub const fn is_the_matter(self) -> bool {
        matches!(
            self,
            Self::Link
                | Self::VisitTime
                | Self::Amount
                | Self::DocumentTask
                | Self::NoticeTask
                | Self::NoticeTitle
                | Self::NoticeBody
        )
    }

    /// Whether a sender may leave it out.
    #[must_use]
    pub const fn is_optional(self) -> bool {
        match self {
            Self::VisitLength
            | Self::ProviderName
            | Self::LocationName
            | Self::LocationAddress
            | Self::InvoiceNumber
            | Self::PaymentDate
            | Self::PaymentMethod
            | Self::SenderName
            | Self::DocumentTitles
            | Self::DocumentDue
            | Self::CustomContent => true,
            Self::FirstName
            | Self::PracticeName
            | Self::LegalName
            | Self::PracticePhone
            | Self::PostalAddress
            | Self::Link
            | Self::DocumentTask
            | Self::DocumentVerb
            | Self::DocumentNoun
            | Self::NoticeKind
            | Self::NoticeTask
            | Self::VisitTime
            | Self::Amount
            | Self::NoticeTitle
            | Self::NoticeBody => false,
        }
    }

    /// The most characters that its value may have; unset: what it is in a message is known, or is kept within bounds elsewhere.
    const fn longest(self) -> Option<usize> {
        match self {
            Self::FirstName => Some(100),
            // "miércoles 30 de septiembre a las 12:30 PM" and a zone; other languages write no more.
            Self::VisitTime => Some(60),
            Self::VisitLength => Some(40),
            Self::CustomContent => Some(1_000),
            _ => None,
        }
    }

    /// Whether its value may have more than one line.
    const fn is_long(self) -> bool {
        matches!(self, Self::NoticeBody | Self::CustomContent)
    }
}

/// What the tokens stand for in one message, and the variables of a practice's own template. A token without a value is empty.
#[derive(Clone, Default)]
pub struct Values {
    tokens: BTreeMap<Token, String>,
    variables: BTreeMap<String, String>,
}

impl Values {
    /// Gives `token` its value. Control characters are left out, and a value that stands within a line stays within it:
    /// what a sender puts in a name cannot begin a line of its own.
    pub fn set(&mut self, token: Token, value: &str) {
        self.tokens.insert(token, clean(value, token.is_long()));
    }

    /// Gives the variable `name` its value, which may have several lines. Control characters are left out.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), clean(value, true));
    }

    /// The value of `token`; empty if it has none.
    #[must_use]
    pub fn get(&self, token: Token) -> &str {
        self.tokens.get(&token).map_or("", String::as_str)
    }

    /// Whether the token or variable of that name has a value that shows.
    pub(super) fn has(&self, name: &str) -> bool {
        let token = Token::named(name).map(|token| self.get(token));
        let value = token.or_else(|| self.variables.get(name).map(String::as_str));
        value.is_some_and(|value| !is_blank(value))
    }

    /// Without a value for the token or variable of that name.
    pub(super) fn without(&self, name: &str) -> Self {
        let mut values = self.clone();
        match Token::named(name) {
            Some(token) => values.set(token, ""),
            None => values.set_variable(name, ""),
        }
        values
    }

    /// With the longest value that each token may have where text is short.
    pub(super) fn longest(&self) -> Self {
        let mut values = self.clone();
        for token in Token::ALL {
            if let Some(length) = token.longest() {
                values.set(*token, &"x".repeat(length));
            }
        }
        values
    }

    /// What a template sees: every token of the classes, and no other.
    pub(super) fn within(&self, classes: &[TokenClass]) -> liquid::Object {
        let permitted = Token::ALL.iter().filter(|token| classes.contains(&token.class()));
        // liquid refuses tokens that it does not know, so that those without a value are bound as well.
        let tokens = permitted.map(|token| (token.name(), self.get(*token)));
        let variables = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        tokens
            .chain(variables.filter(|_| classes.contains(&TokenClass::SenderWords)))
            .map(|(name, value)| (name.to_owned().into(), liquid::model::Value::scalar(value.to_owned())))
            .collect()
    }

    /// Invented values, one for each token and variable, to try wording with.
    #[must_use]
    pub fn sample(variables: &[String]) -> Self {
        let sample = || "sample".to_owned();
        Self {
            tokens: Token::ALL.iter().map(|token| (*token, sample())).collect(),
            variables: variables.iter().map(|name| (name.clone(), sample())).collect(),
        }
    }
}

/// A value without control characters, in one line unless it may have several.
fn clean(value: &str, long: bool) -> String {
    let lines = value.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}'], "\n");
    let lines = lines.split('\n').map(|line| {
        let spaced = line.replace('\t', " ");
        // A longer text may need marks of direction; a name is put between words of others.
        spaced.trim().chars().filter(|c| !c.is_control() && (long || !is_hidden(*c))).collect::<String>()
    });
    lines.collect::<Vec<_>>().join(if long { "\n" } else { " " }).trim().to_owned()
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values([hidden])")
    }
}
