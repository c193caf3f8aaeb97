//! The rules: what is sent to whom, over what, when, and what became of it. Everything here computes; nothing does I/O,
//! reads a clock or draws randomness, so that the hard questions are answered by functions that a test can call a
//! million times.

mod actor;
mod address;
mod content;
mod directory;
mod id;
mod kind;
mod phi;
mod settings;

pub use actor::{Actor, ActorType, Author, Denied, Engine, Practices, Role, Scope};
pub use address::{AddressError, EmailAddress, PhoneNumber};
pub use content::Content;
pub use directory::{Patient, Practice, Stored};
pub use id::{DeliveryId, InvalidId, NotificationId, PatientId, PracticeId};
pub use kind::{Channel, ChannelSet, Kind};
pub use phi::Phi;
pub use settings::{
    Account, EmailProvider, EmailSettings, Finding, KindChannels, PracticeSettings, Provider, SendGridSettings, SmsSender,
    SmsSettings, SmtpAccount, SmtpSecurity, SmtpSettings, TwilioAccount,
};
