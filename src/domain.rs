//! The rules: what is sent to whom, over what, when, and what became of it. Everything here computes; nothing does I/O,
//! reads a clock or draws randomness, so that the hard questions are answered by functions that a test can call a
//! million times.

mod actor;
pub mod address;
mod attachment;
mod attempt;
mod audit;
mod broadcast;
mod consent;
mod contact;
mod content;
mod conversation;
mod decide;
mod delivery;
mod device;
mod directory;
mod facts;
mod id;
mod inbox;
mod keyword;
mod kind;
mod legible;
mod locale;
mod notification;
mod phi;
mod preference;
pub mod received;
mod reconcile;
mod retry;
mod schedule;
mod settings;
pub mod sms;
mod stats;
pub mod template;
mod trace;

pub use actor::{Actor, ActorType, Author, Call, Denied, Engine, Practices, Role, Scope};
pub use address::{AddressError, EmailAddress, PhoneNumber, Textability, mail_domain};
pub use attachment::{
    Attachment, AttachmentState, LARGEST_FETCHED, LARGEST_UPLOAD, MOST_ATTACHMENTS, MediaType, UNSENT_FILES_KEPT,
    hindrances_by_text,
};
pub use attempt::{Ending, Known, Next, Standing, Tries, Verdict, first_look};
pub use audit::{AuditEvent, AuditNote, AuditRecord};
pub use broadcast::{Announcement, Audience, Broadcast, BroadcastState, Planner, Share, StateCounts};
pub use consent::{
    Closure, ConsentEntry, ConsentRecord, ConsentSource, NumberState, by_links, effective_now, in_force, start_opts_in,
    unanswered_stops,
};
pub use contact::TestContact;
pub use content::Content;
pub use conversation::{
    Conversation, ConversationFilter, ConversationMessage, ConversationNews, ConversationState, Direction, Home,
    MessageDelivery, MessageRoute, Newness, Said, Side, Subset, Tally,
};
pub use decide::{ConsentState, Decision, DecisionStep, Gates, Grounds, Outcome};
pub use delivery::{
    Class, Delivery, DeliveryChange, DeliveryEvent, DeliveryFilter, Failure, FailureReason, NO_SUCH_USER, SkipReason,
    Source,
};
pub use device::{Device, MOST_DEVICES, PushToken, Registration};
pub use directory::{Patient, Practice, Stored};
pub use facts::{DeliveryState, Facts, shown};
pub use id::{
    AttachmentId, BroadcastId, ConversationId, DeliveryId, DeviceId, InvalidId, MessageId, NotificationId, PatientId,
    PracticeId,
};
pub use inbox::{InboxItem, ReadState, Selection};
pub use keyword::Meaning;
pub use kind::{Channel, ChannelSet, Kind};
pub use legible::{HIDDEN, is_hidden, legible};
pub use locale::Locale;
pub use notification::{
    Appointment, Custom, DocumentAction, Documents, MessageReceived, Money, Notice, Payload, Payment, Priority,
    SecureLink,
};
pub use phi::Phi;
pub use preference::{Choices, Effective};
pub use reconcile::{AfterLook, Inquiry, Look, next_poll};
pub use retry::RetryBar;
pub use schedule::{Expiry, GIVE_UP_AFTER, MOST_AUTOMATIC, OpenSpan, Opening, OpeningHours, QuietHours, moment};
pub use settings::{
    Account, AfterHours, BounceSettings, Dkim, DkimKey, DkimSettings, EmailProvider, EmailSettings, Finding,
    KindChannels, PracticeSettings, Provider, PushSettings, SendGridAccount, SendGridSettings, ServiceAccount,
    SmsSender, SmsSettings, SmtpAccount, SmtpSecurity, SmtpSettings, TwilioAccount, WebhookKey, in_pool,
};
pub use stats::{DeliveryStats, Hours};
pub use trace::TraceContext;
