//! The use cases, for gRPC and HTTP alike. They know no transport: what comes in is of the domain, what goes out is too, and
//! what goes wrong is [`Error`].

pub mod admission;
pub mod audit;
pub mod broadcasts;
pub mod callbacks;
pub mod consent;
pub mod conversations;
pub mod directory;
pub mod emergencies;
mod error;
pub mod inbox;
pub mod links;
pub mod media;
pub mod notify;
pub mod pages;
pub mod preferences;
pub mod refusals;
pub mod strangers;
pub mod templates;
pub mod unsubscribe;
pub mod watch;

pub use error::{Error, Violation};

pub use crate::store::{
    AuditQuery, ConsentChange, ConsentQuery, Labels, NotificationDetail, NotificationRecord, PatientQuery,
    StoredVersion, Subscription, Target,
};
