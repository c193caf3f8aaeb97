//! The only place where the concrete parts meet: in which order they start, and in which they stop.

use std::{
    collections::BTreeSet, fs, io, net::SocketAddr, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Duration,
};

use anyhow::Context;
use axum::Router;
use chrono::TimeDelta;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{self, TokenError, Verifier},
    clock::SharedClock,
    config::Config,
    crypto::{FingerprintKey, TokenKey},
    custody::{self, CustodyError},
    dispatch::{self, Dispatch},
    domain::{AuditEvent, AuditRecord, Author, Engine, PracticeId, address},
    duties::{self, Anchors},
    grpc, http,
    ports::{Port, Protocol, Stop},
    providers::{self, Providers},
    service::{
        admission::{self, Admission, Calls},
        audit::Audit,
        broadcasts::Broadcasts,
        callbacks::Callbacks,
        consent::{self, Consents},
        conversations::Conversations,
        directory::Directory,
        emergencies::Emergencies,
        inbox::Inbox,
        links::Links,
        media::Media,
        notify::Notify,
        pages::Pages,
        preferences::Preferences,
        refusals::Refusals,
        strangers::Strangers,
        templates::Templates,
        unsubscribe::Unsubscribe,
        watch::{self, Watch},
    },
    store::{self, Anchored, AuditQuery, OpenError, Proof, ReadAnew, Store, StoreError, Time},
    telemetry::{self, ExportError, Telemetry},
    wake::Wake,
};

/// Why the server does not start. Each names the variable to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("HEEDWELL_DATA_DIR: the folder cannot be made or written to")]
    DataDir(#[source] io::Error),
    /// The master keys cannot be had.
    #[error(transparent)]
    MasterKeys(CustodyError),
    /// The database cannot be used.
    #[error("HEEDWELL_DATABASE_URL")]
    Database(#[source] OpenError),
    /// The database failed while work was taken up again.
    #[error("HEEDWELL_DATABASE_URL: work could not be taken up again")]
    Recovery(#[source] StoreError),
    /// Tokens cannot be verified.
    #[error("{}", .0.variable())]
    Auth(#[source] auth::SetupError),
    /// The providers' settings cannot be used.
    #[error("HEEDWELL_TWILIO_URL, HEEDWELL_SENDGRID_URL, HEEDWELL_FCM_URL, HEEDWELL_GOOGLE_TOKEN_URL")]
    Providers(#[source] providers::SetupError),
    /// The limits of sending do not fit together.
    #[error("the limits of sending do not fit together")]
    Limits(#[source] dispatch::SettingsError),
    /// An address is taken or not ours.
    #[error("{variable}: {addr} cannot be listened on; another process may have it")]
    Listen {
        /// The variable.
        variable: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Metrics or traces cannot be sent.
    #[error(transparent)]
    Telemetry(#[from] ExportError),
    /// The gRPC server could not be set up.
    #[error("gRPC cannot be served")]
    Grpc(#[source] grpc::ContractError),
}

/// How long everything may take once load balancers have had their time: with the usual 5 s of those, the process is gone
/// within the 25 s that operators are promised.
const STOP_LIMIT: Duration = Duration::from_secs(19);
/// How much of that is kept for the database's connections.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A running server.
#[derive(Debug)]
pub struct App {
    /// Where gRPC is served.
    pub grpc_addr: SocketAddr,
    /// Where the sidecar is served.
    pub http_addr: SocketAddr,
    /// Where metrics are shown.
    pub metrics_addr: Option<SocketAddr>,
    store: Store,
    engine: Engine,
    anchors: Anchors,
    watch: Watch,
    refusals: Refusals,
    health: grpc::Health,
    readiness: http::Readiness,
    drain: Duration,
    work: CancellationToken,
    calls: Stop,
    tasks: TaskTracker,
}

/// What everything that is served stands on.
struct Base {
    store: Store,
    engine: Engine,
    clock: SharedClock,
    verifier: Arc<Verifier>,
    fingerprints: FingerprintKey,
    tokens: TokenKey,
    anchors: Anchors,
}

/// The limits of what is served.
struct Limits {
    http: http::Settings,
    watch: watch::Settings,
    admission: admission::Settings,
    consent: consent::Settings,
    content_retention: Option<TimeDelta>,
    any_relay_port: bool,
}

/// What answers, before it listens anywhere.
struct Served {
    grpc: Router,
    http: Router,
    watch: Watch,
    refusals: Refusals,
    health: grpc::Health,
    readiness: http::Readiness,
}

impl Limits {
    fn of(config: &Config) -> Self {
        Self {
            http: config.http,
            watch: config.watch,
            admission: config.admission,
            consent: config.consent,
            content_retention: config.duties.content_retention,
            any_relay_port: config.providers.allow_private,
        }
    }
}

impl Base {
    async fn open(config: &Config, time: Time) -> Result<Self, StartError> {
        make_folder(&config.data_dir).map_err(StartError::DataDir)?;
        let keys = custody::load(&config.custody).await.map_err(StartError::MasterKeys)?;
        // The first number parsed loads the numbering plans; no caller shall wait for that.
        let warm = tokio::task::spawn_blocking(address::warm_up);
        let (fingerprints, tokens) = (keys.fingerprints(), keys.tokens());
        let anchors = Anchors::new(keys.anchor(), config.duties.anchor_file.clone());
        let clock = time.clock().clone();
        let telemetry = Telemetry::new(&config.telemetry)?;
        let settings = store::Settings { telemetry, ..config.store.clone() };
        let store = Store::open(settings, keys, time, Wake::default()).await;
        let store = store.map_err(StartError::Database)?;
        store.masters_anew(masters_anew(config.custody.clone()));
        let _ = warm.await;
        let verifier = Verifier::new(config.auth.clone(), clock.clone()).await.map_err(StartError::Auth)?;
        Ok(Self { store, engine: Engine::new(), clock, verifier: Arc::new(verifier), fingerprints, tokens, anchors })
    }

    /// `stop`: watches end.
    fn served(&self, public_url: &str, limits: Limits, stop: CancellationToken) -> Result<Served, StartError> {
        let Self { store, engine, verifier, .. } = self;
        let watch = Watch::new(store.clone(), self.tokens.clone(), self.clock.clone(), limits.watch, stop);
        let admission = Admission::new(store.clone(), limits.admission);
        let refusals = Refusals::new(store.clone(), engine.clone());
        let calls = Arc::new(Calls::new(limits.admission.calls_per_second));
        let kept = (limits.consent, limits.content_retention);
        let services = self.services((public_url, calls, &refusals), kept, limits.any_relay_port, (&watch, admission));
        let (health, server) = grpc::Server::new(services);
        let (readiness, home) = (readiness(store.clone()), http::Home::new(public_url));
        // Who opens pages and who calls back do not stand in each other's way.
        let (providers, visitors) = (Strangers::default(), Strangers::default());
        let sidecar = http::Services {
            callbacks: Callbacks::new(
                store.clone(),
                engine.clone(),
                (refusals.clone(), providers.clone()),
                public_url.to_owned(),
            ),
            links: Links::new(store.clone(), engine.clone(), self.fingerprints.clone(), visitors.clone()),
            media: Media::new(store.clone(), engine.clone(), providers),
            unsubscribe: Unsubscribe::new(store.clone(), engine.clone(), visitors),
            readiness: readiness.clone(),
            sign_in: sign_in(&home, Arc::clone(verifier)),
            telemetry: store.telemetry().clone(),
        };
        let http = http::router(sidecar, limits.http).merge(http::with_cookie(server.web(), home));
        let grpc = server.native().map_err(StartError::Grpc)?;
        Ok(Served { grpc, http, watch, refusals, health, readiness })
    }

    fn services(
        &self,
        (public_url, calls, refusals): (&str, Arc<Calls>, &Refusals),
        (consent, content_retention): (consent::Settings, Option<TimeDelta>),
        any_relay_port: bool,
        (watch, admission): (&Watch, Admission),
    ) -> grpc::Services {
        let Self { store, clock, fingerprints, tokens, .. } = self;
        let pages = Pages::new(fingerprints.clone(), tokens.clone());
        let notify = Notify::new(
            store.clone(),
            admission.clone(),
            clock.clone(),
            fingerprints.clone(),
            tokens.clone(),
            public_url,
        );
        grpc::Services {
            verifier: Arc::clone(&self.verifier),
            calls,
            refusals: refusals.clone(),
            emergencies: Emergencies::new(store.clone()),
            conversations: Conversations::new(
                store.clone(),
                (admission.clone(), fingerprints.clone()),
                pages.clone(),
                notify.clone(),
                watch.clone(),
            ),
            broadcasts: Broadcasts::new(
                store.clone(),
                admission.clone(),
                (clock.clone(), fingerprints.clone()),
                pages.clone(),
                public_url.to_owned(),
            ),
            notify,
            watch: watch.clone(),
            directory: Directory::new(store.clone(), admission.clone(), pages.clone()),
            preferences: Preferences::new(store.clone(), public_url.to_owned(), content_retention, any_relay_port),
            inbox: Inbox::new(store.clone(), pages.clone(), watch.clone()),
            audit: Audit::new(store.clone(), pages.clone()),
            telemetry: store.telemetry().clone(),
            consents: Consents::new(store.clone(), fingerprints.clone(), pages.clone(), consent),
            templates: Templates::new(store.clone(), admission, fingerprints.clone(), pages, public_url.to_owned()),
        }
    }
}

/// What answers calls and requests, in this process: it listens nowhere, and nothing is sent or done by itself. For whoever puts in
/// one at a time and looks at what it changes.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The calls of gRPC.
    pub grpc: Router,
    /// The sidecar.
    pub http: Router,
}

impl Answers {
    /// Makes them ready. They answer under `config`'s public address, and never end by themselves.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn of(config: Config, time: Time) -> Result<Self, StartError> {
        let base = Base::open(&config, time).await?;
        let limits = Limits::of(&config);
        let public_url = config.public_url.clone().unwrap_or_default();
        let Served { grpc, http, health, .. } = base.served(&public_url, limits, CancellationToken::new())?;
        health.serving().await;
        Ok(Self { grpc, http })
    }
}

impl App {
    /// Starts the server: when this returns, it serves.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, time: Time) -> Result<Self, StartError> {
        let (lease, longest_call) = (config.store.lease, config.providers.call_timeout);
        config.dispatch.check(lease, longest_call).map_err(StartError::Limits)?;
        let limits = Limits::of(&config);
        // On the heap: what it passes through is not carried along by whoever starts servers.
        let base = Box::pin(Base::open(&config, time)).await?;
        recover(&base.store, &base.engine).await.map_err(StartError::Recovery)?;
        let providers = Providers::new(config.providers, base.clock.clone()).map_err(StartError::Providers)?;
        let grpc_listener = listen("HEEDWELL_GRPC_ADDR", config.grpc_addr).await?;
        let http_listener = listen("HEEDWELL_HTTP_ADDR", config.http_addr).await?;
        let (grpc_addr, http_addr) = (local(&grpc_listener, config.grpc_addr), local(&http_listener, config.http_addr));
        let metrics = match config.metrics_addr {
            Some(addr) => {
                let listener = listen("HEEDWELL_METRICS_ADDR", addr).await?;
                Some((local(&listener, addr), listener))
            }
            None => None,
        };
        let metrics_addr = metrics.as_ref().map(|(addr, _)| *addr);
        let public_url = config.public_url.unwrap_or_else(|| format!("http://{http_addr}"));

        let (work, tasks) = (CancellationToken::new(), TaskTracker::new());
        let calls = Stop { planned: CancellationToken::new(), at_once: CancellationToken::new() };
        let Served { grpc, http, watch, refusals, health, readiness } =
            base.served(&public_url, limits, calls.planned.clone())?;
        if let Some(tls) = &config.tls {
            tasks.spawn(tls.clone().follow(config.ports.certificates, calls.planned.clone()));
        }
        let port = |router, tls, protocol| Port { router, tls, protocol, settings: config.ports };
        let sidecar = port(http, None, Protocol::Either);
        let native = port(grpc, config.tls, Protocol::Http2);
        base.store.telemetry().metrics.watched(watch.count());
        if let Some((_, listener)) = metrics {
            let shown = port(http::metrics(base.store.telemetry().clone()), None, Protocol::Either);
            tasks.spawn(shown.serve(listener, calls.clone()));
        }
        let Base { store, engine, clock, anchors, .. } = base;
        let settings = dispatch::Settings { public_url: public_url.clone(), ..config.dispatch };
        let providers = Arc::new(providers);
        let dispatch = Dispatch::new(store.clone(), engine.clone(), providers, settings, clock.clone(), work.clone());
        tasks.spawn(dispatch.run());
        let own = (config.duties, anchors.clone());
        tasks.spawn(duties::run(store.clone(), engine.clone(), own, public_url, work.clone()));
        tasks.spawn(store.clone().hints(calls.planned.clone()));
        tasks.spawn(watch.clone().follow(engine.clone()));
        tasks.spawn(refusals.clone().run(calls.planned.clone()));
        tasks.spawn(native.serve(grpc_listener, calls.clone()));
        tasks.spawn(sidecar.serve(http_listener, calls.clone()));
        tasks.close();
        health.serving().await;
        Ok(Self {
            grpc_addr,
            http_addr,
            metrics_addr,
            store,
            engine,
            anchors,
            watch,
            refusals,
            health,
            readiness,
            drain: config.drain,
            work,
            calls,
            tasks,
        })
    }

    /// The store and the server's own key, for looking at what became of things in a demo.
    #[must_use]
    pub const fn store(&self) -> (&Store, &Engine) {
        (&self.store, &self.engine)
    }

    /// The watches, for counting them.
    #[must_use]
    pub const fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Stops: no more work is taken, load balancers are given time to notice, streams end as planned, calls under way end or
    /// are left to be looked into.
    pub async fn stop(self) {
        let end = Instant::now() + self.drain + STOP_LIMIT;
        self.health.not_serving().await;
        self.readiness.stop();
        self.work.cancel();
        sleep(self.drain).await;
        self.calls.planned.cancel();
        if timeout_at(end - CLOSE_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("calls under way did not end in time; their outcomes will be looked into");
        }
        // A transaction that a call began is finished by the store all the same.
        self.calls.at_once.cancel();
        // Nobody is refused any more, and nothing is written any more: what there is can be anchored.
        let last = async {
            self.refusals.flush().await;
            self.anchors.say(&self.store, &self.engine).await
        };
        let _ = timeout_at(end, last).await;
        let _ = timeout_at(end, self.store.close()).await;
        let _ = timeout_at(end, self.store.telemetry().clone().stop()).await;
    }
}

/// Makes a folder for its owner's eyes only, unless it is there.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The master keys from where they are kept, whenever one is missing.
fn masters_anew(custody: custody::Settings) -> ReadAnew {
    Box::new(move || {
        let custody = custody.clone();
        Box::pin(async move {
            match custody::look(&custody).await {
                Ok(keys) => keys,
                Err(error) => {
                    tracing::error!(error = %telemetry::chain(&error), "a master key is missing, and none can be read");
                    None
                }
            }
        })
    })
}

/// What the operator's verbs work as: whoever runs them has the database and the key file anyway.
pub(crate) const fn operator() -> Engine {
    Engine::new()
}

/// Proves the ledgers, or that of one practice, by themselves and by what was anchored, and tells of each. True: something does
/// not hold.
pub(crate) async fn prove(
    store: &Store,
    only: Option<PracticeId>,
    anchored: &Anchored,
    tell: impl Fn(String),
) -> Result<bool, StoreError> {
    let engine = Engine::new();
    let practices = match only {
        Some(practice) => BTreeSet::from([practice]),
        None => store.ledgers(&engine).await?.into_iter().chain(anchored.practices().cloned()).collect(),
    };
    let mut found = false;
    for practice in practices {
        let proof = store.ledger_prove(&engine, &practice, anchored).await?;
        for finding in &proof.findings {
            tell(format!("{practice}: {finding}"));
        }
        let verdict = if proof.findings.is_empty() { "holds" } else { "DOES NOT HOLD" };
        let Proof { entries, attempts, events, findings } = proof;
        tell(format!("{practice}: {entries} entries, {attempts} attempts, {events} audit events: {verdict}"));
        found |= !findings.is_empty();
    }
    Ok(found)
}

/// Hands `write` the entries of a trail after a position, the oldest first and one page in memory at a time. That it is taken out is
/// the last of them.
pub(crate) async fn export_trail(
    store: &Store,
    practice: PracticeId,
    mut after: i64,
    mut write: impl FnMut(AuditRecord) -> io::Result<()>,
) -> anyhow::Result<()> {
    let (engine, scope) = (Engine::new(), Engine::new().scope(practice.clone(), Author::system()));
    let event = AuditEvent::of_system(AuditEvent::EXPORTED, None, "audit".to_owned());
    store.audit_append(&engine, practice, vec![event]).await?;
    let newest = store.audit_list(&scope, &AuditQuery { limit: 1, ..Default::default() }).await?.records;
    let through = newest.first().map_or(0, |record| record.position);
    while after < through {
        let records = store.audit_after(&scope, after).await?;
        after = records.last().map_or(through, |record| record.position);
        for record in records.into_iter().filter(|record| record.position <= through) {
            write(record).context("standard output")?;
        }
    }
    Ok(())
}

/// Whether the server may be sent calls.
fn readiness(store: Store) -> http::Readiness {
    http::Readiness::new(move || {
        let store = store.clone();
        Box::pin(async move { store.ready().await.unwrap_or(false) })
    })
}

/// Who may use the dashboard: whoever may call.
fn sign_in(home: &http::Home, verifier: Arc<Verifier>) -> http::SignIn {
    http::SignIn::new(home.clone(), move |token| {
        let verifier = Arc::clone(&verifier);
        Box::pin(async move {
            verifier.verify(&token).await.map_err(|error| match error {
                TokenError::Invalid => http::Stranger::Invalid,
                TokenError::Unavailable => http::Stranger::Unavailable,
            })
        })
    })
}

/// Whoever held claims before is gone: on SQLite surely, since one process holds the file; elsewhere once their leases end.
async fn recover(store: &Store, engine: &Engine) -> Result<(), StoreError> {
    let alone = store.is_alone();
    if alone {
        store.broadcasts_recover(engine).await?;
    }
    loop {
        match store.rescue(engine, alone).await? {
            0 => return Ok(()),
            count => tracing::warn!(count, "deliveries taken over from the process before"),
        }
    }
}

async fn listen(variable: &'static str, addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Listen { variable, addr, source })
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
