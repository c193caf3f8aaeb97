//! The gRPC API: verify the token, check the practice and the role, parse, call a use case, show what it yields. Generated
//! types never leave this room, and every error leaves it through `status`.

mod audit;
mod auth;
mod broadcasts;
mod call;
mod conversations;
mod convert;
mod deadline;
mod directory;
mod inbox;
mod notify;
mod preferences;
pub mod proto;
mod server;
mod status;
mod templates;

use std::sync::Arc;

use axum::middleware::{from_fn, from_fn_with_state};
use tonic::{server::NamedService, service::Routes};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use self::call::Observer;
use self::proto::{
    audit_service_server::AuditServiceServer, broadcast_service_server::BroadcastServiceServer,
    conversations_service_server::ConversationsServiceServer, directory_service_server::DirectoryServiceServer,
    inbox_service_server::InboxServiceServer, notify_service_server::NotifyServiceServer,
    preferences_service_server::PreferencesServiceServer, template_service_server::TemplateServiceServer,
};
pub use self::server::{ContractError, Health, Server};
use crate::{
    auth::Verifier,
    service::{
        admission::Calls, audit::Audit, broadcasts::Broadcasts, consent::Consents, conversations::Conversations,
        directory::Directory, emergencies::Emergencies, inbox::Inbox, notify::Notify, preferences::Preferences,
        refusals::Refusals, templates::Templates, watch::Watch,
    },
    telemetry::Telemetry,
};

/// The longest message in either direction, in bytes: enough for a batch of 500 and an attachment of 3 MiB.
const LONGEST_MESSAGE: usize = 4 * 1024 * 1024;

/// The names of the services; the empty one stands for the server as a whole.
const SERVICES: [&str; 9] = [
    "",
    NotifyServiceServer::<notify::Handlers>::NAME,
    DirectoryServiceServer::<directory::Handlers>::NAME,
    PreferencesServiceServer::<preferences::Handlers>::NAME,
    BroadcastServiceServer::<broadcasts::Handlers>::NAME,
    TemplateServiceServer::<templates::Handlers>::NAME,
    InboxServiceServer::<inbox::Handlers>::NAME,
    ConversationsServiceServer::<conversations::Handlers>::NAME,
    AuditServiceServer::<audit::Handlers>::NAME,
];

/// What the calls are served with.
#[derive(Clone, Debug)]
pub struct Services {
    /// Says who calls.
    pub verifier: Arc<Verifier>,
    /// Says how often.
    pub calls: Arc<Calls>,
    /// Puts on record who was refused.
    pub refusals: Refusals,
    /// Tells of calls in an emergency.
    pub emergencies: Emergencies,
    /// Sends and reads notifications.
    pub notify: Notify,
    /// Streams changes.
    pub watch: Watch,
    /// Keeps practices and patients.
    pub directory: Directory,
    /// Keeps settings.
    pub preferences: Preferences,
    /// Keeps the consent ledger.
    pub consents: Consents,
    /// Shows inboxes.
    pub inbox: Inbox,
    /// Keeps wording.
    pub templates: Templates,
    /// Talks with patients.
    pub conversations: Conversations,
    /// Shows audit trails.
    pub audit: Audit,
    /// Sends and reads broadcasts.
    pub broadcasts: Broadcasts,
    /// Where calls are counted and traced.
    pub telemetry: Telemetry,
}

/// A service with our limits on messages. No compression in either direction: it would let bombs in and lengths out.
macro_rules! bounded {
    ($server:ident($handlers:expr)) => {
        $server::new($handlers).max_decoding_message_size(LONGEST_MESSAGE).max_encoding_message_size(LONGEST_MESSAGE)
    };
}

/// All services of the contract, for the native port and gRPC-Web alike.
fn routes(services: Services) -> Routes {
    let Services {
        verifier,
        calls,
        refusals,
        emergencies,
        notify,
        watch,
        directory,
        preferences,
        consents,
        inbox,
        templates,
        conversations,
        broadcasts,
        audit,
        telemetry,
    } = services;
    let inbox = inbox::Handlers { inbox, watch: watch.clone() };
    let conversations = conversations::Handlers { conversations, watch: watch.clone() };
    let broadcasts = broadcasts::Handlers { broadcasts, watch: watch.clone() };
    let notify = notify::Handlers { notify, watch, refusals: refusals.clone() };
    let routes = Routes::new(bounded!(NotifyServiceServer(notify)))
        .add_service(bounded!(DirectoryServiceServer(directory::Handlers { directory })))
        .add_service(bounded!(PreferencesServiceServer(preferences::Handlers { preferences, consents })))
        .add_service(bounded!(BroadcastServiceServer(broadcasts)))
        .add_service(bounded!(TemplateServiceServer(templates::Handlers { templates })))
        .add_service(bounded!(InboxServiceServer(inbox)))
        .add_service(bounded!(ConversationsServiceServer(conversations)))
        .add_service(bounded!(AuditServiceServer(audit::Handlers { audit })));
    guarded(routes, verifier, calls, Observer::new((refusals, emergencies), telemetry))
}

/// The calls with everything around them that is not their own business; each of them needs a token.
fn guarded(routes: Routes, verifier: Arc<Verifier>, calls: Arc<Calls>, observer: Observer) -> Routes {
    // From the outside in.
    let layers = ServiceBuilder::new()
        // The id and the span come first, so that everything below is told apart in the log, refusals included, and these are seen
        // wherever below they are made.
        .layer(from_fn_with_state(observer, call::observe))
        // Inside the span, so that a panic's incident is logged there; around the rest, so that no panic escapes.
        .layer(CatchPanicLayer::custom(|_| status::panicked().into_http::<axum::body::Body>()))
        // Around everything that the call may have to wait for: its turn, and the issuer of keys, who may be slow to answer.
        .layer(from_fn(deadline::limit))
        // Before any work is done for the call.
        .layer(from_fn(call::admit))
        // Before any handler, and before it is known whether there is such a call.
        .layer(from_fn_with_state(verifier, auth::verify))
        // As soon as it is known whose the call is.
        .layer(from_fn_with_state(calls, auth::pace));
    Routes::from(routes.into_axum_router().layer(layers))
}

#[cfg(test)]
mod tests;
