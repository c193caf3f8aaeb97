//! A whole server in this process, on a database and ports of its own, with stand-ins for its providers and a clock
//! that only the test moves. Tests call it as any client would: generated code over TCP, and a token.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails where it stands")]

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, TimeDelta, Utc};
use heedwell::{
    app::App,
    auth::{Bond, EMERGENCY_LIFE, LocalKey, NewToken},
    clock::{Clock, ManualClock},
    config::{self, Config, Env},
    domain::{Engine, Phi, Practices, Role},
    grpc::proto::{
        audit_service_client::AuditServiceClient, broadcast_service_client::BroadcastServiceClient,
        conversations_service_client::ConversationsServiceClient, directory_service_client::DirectoryServiceClient,
        inbox_service_client::InboxServiceClient, notify_service_client::NotifyServiceClient,
        preferences_service_client::PreferencesServiceClient, template_service_client::TemplateServiceClient,
    },
    sandbox::{self, Sandbox},
    store::Time,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{Backend, Home, TestStore, invariants, process::Process};

/// Longest wait for anything; far beyond what a slow machine needs.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The practice that [`TestApp::token`] is for.
pub(crate) const ACME: &str = "acme";

/// A running server and everything around it.
pub(crate) struct TestApp {
    pub(crate) home: Home,
    pub(crate) sandbox: Sandbox,
    /// Set: every token is one for an emergency, and this is why.
    pub(crate) emergency: Option<Phi<String>>,
    clock: Arc<ManualClock>,
    tune: Box<dyn Fn(&mut Config) + Send + Sync>,
    running: Option<Running>,
}

struct Running {
    app: Served,
    key: LocalKey,
    channel: Channel,
}

/// A server in this process, or one that is a process of its own.
enum Served {
    Here(App),
    Apart(Process),
}

impl TestApp {
    /// Starts everything; unset when there is no such database on this machine, which has been said aloud then.
    pub(crate) async fn spawn(backend: Backend) -> Option<Self> {
        // A Monday, ten in the morning in New York.
        let start = DateTime::parse_from_rfc3339("2026-03-02T15:00:00.123456Z").unwrap();
        let mut app = Self::around(backend, start.to_utc()).await?;
        // On the heap, or every test would carry the whole start in its own future.
        Box::pin(app.start()).await;
        Some(app)
    }

    /// As [`TestApp::spawn`], with a server that is a process of its own, as an operator starts it: it goes by the true time, and
    /// logs as `log` says.
    pub(crate) async fn spawn_apart(backend: Backend, log: &str, tune: impl FnOnce(&mut Env)) -> Option<Self> {
        let mut app = Self::around(backend, SystemTime::now().into()).await?;
        let mut env = app.env();
        tune(&mut env);
        app.start_apart(&env, log).await;
        Some(app)
    }

    /// Starts a server again that is a process of its own, and tells it that.
    pub(crate) async fn start_apart(&mut self, env: &Env, log: &str) {
        assert!(self.running.is_none(), "it runs already");
        let process = Process::start(env, log, &self.home.path("")).await;
        let config = config::read(env, true).unwrap();
        let (key, _) = LocalKey::load_or_create(&config::local_key(&config.data_dir)).unwrap();
        let channel = connect_to(process.grpc_addr).await;
        self.running = Some(Running { app: Served::Apart(process), key, channel });
    }

    /// Everything but the server.
    async fn around(backend: Backend, start: DateTime<Utc>) -> Option<Self> {
        let home = Home::new(backend).await?;
        let clock = Arc::new(ManualClock::new(start));
        let settings = sandbox::Settings { carrier_delay: Duration::from_millis(5), ..sandbox::Settings::default() };
        let sandbox = Sandbox::start(settings).await.unwrap();
        let app = Self { home, sandbox, emergency: None, clock, tune: Box::new(|_| {}), running: None };
        app.set_provider_clock();
        Some(app)
    }

    /// What the server is told.
    pub(crate) fn env(&self) -> Env {
        let mut env = environment(&self.home, &self.sandbox.twilio_url());
        env.set("HEEDWELL_SENDGRID_URL", self.sandbox.sendgrid_url());
        env.set("HEEDWELL_FCM_URL", self.sandbox.fcm_url());
        env.set("HEEDWELL_GOOGLE_TOKEN_URL", self.sandbox.google_token_url());
        env
    }

    /// By whose clock it goes.
    pub(crate) fn time(&self) -> Time {
        Time::Injected(self.clock.clone())
    }

    /// Starts the server again.
    pub(crate) async fn start(&mut self) {
        self.start_with(&self.env()).await;
    }

    /// Starts the server again, and tells it that.
    pub(crate) async fn start_with(&mut self, env: &Env) {
        assert!(self.running.is_none(), "it runs already");
        let mut config = config::read(env, true).unwrap();
        (self.tune)(&mut config);
        let signing_key = config::local_key(&config.data_dir);
        let app = App::start(config, self.time()).await.unwrap();
        let (key, _) = LocalKey::load_or_create(&signing_key).unwrap();
        let channel = connect(&app).await;
        self.running = Some(Running { app: Served::Here(app), key, channel });
    }

    /// Starts the server again, with limits that a test can reach.
    pub(crate) async fn restart_with(&mut self, tune: impl Fn(&mut Config) + Send + Sync + 'static) {
        self.stop().await;
        self.tune = Box::new(tune);
        self.start().await;
    }

    /// Starts a further server on the same database.
    pub(crate) async fn replica(&self, tune: impl FnOnce(&mut Config)) -> Replica {
        let mut config = config::read(&self.env(), true).unwrap();
        tune(&mut config);
        let app = App::start(config, self.time()).await.unwrap();
        let channel = connect(&app).await;
        Replica { app, channel }
    }

    /// The server that [`TestApp::start`] started.
    pub(crate) fn app(&self) -> &App {
        match &self.running().app {
            Served::Here(app) => app,
            Served::Apart(_) => panic!("it is a process of its own"),
        }
    }

    /// The process that [`TestApp::spawn_apart`] started.
    pub(crate) fn process(&mut self) -> &mut Process {
        match &mut self.running.as_mut().expect("it runs").app {
            Served::Apart(process) => process,
            Served::Here(_) => panic!("it is in this process"),
        }
    }

    /// Stops the server; the stand-ins and the clock go on.
    pub(crate) async fn stop(&mut self) {
        match self.running.take().expect("it runs").app {
            Served::Here(app) => app.stop().await,
            Served::Apart(process) => process.stop().await,
        }
    }

    /// Kills the server, which must be a process of its own.
    pub(crate) async fn kill(&mut self) {
        match self.running.take().expect("it runs").app {
            Served::Apart(mut process) => drop(process.ended_by(rustix::process::Signal::KILL).await),
            Served::Here(_) => panic!("it is in this process"),
        }
    }

    /// Takes the server out, to be stopped while something else goes on.
    pub(crate) fn take(&mut self) -> App {
        match self.running.take().expect("it runs").app {
            Served::Here(app) => app,
            Served::Apart(_) => panic!("it is a process of its own"),
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Moves the time on, for the server and for Twilio.
    pub(crate) fn advance(&self, by: TimeDelta) {
        self.clock.advance(by.to_std().unwrap());
        self.set_provider_clock();
    }

    fn set_provider_clock(&self) {
        self.sandbox.rules().set_clock_offset(self.now() - DateTime::<Utc>::from(SystemTime::now()));
    }

    /// A moment from now, as the contract has it.
    pub(crate) fn after(&self, by: TimeDelta) -> prost_types::Timestamp {
        timestamp(self.now() + by)
    }

    /// A URL of the sidecar.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses()[1])
    }

    /// Where gRPC and the sidecar are served.
    pub(crate) fn addresses(&self) -> [std::net::SocketAddr; 2] {
        match &self.running().app {
            Served::Here(app) => [app.grpc_addr, app.http_addr],
            Served::Apart(process) => [process.grpc_addr, process.http_addr],
        }
    }

    /// The connection that callers share.
    pub(crate) fn channel(&self) -> Channel {
        self.running().channel.clone()
    }

    /// A connection of its own.
    pub(crate) async fn new_channel(&self) -> Channel {
        connect_to(self.addresses()[0]).await
    }

    /// A token for one practice.
    pub(crate) fn token(&self, role: Role) -> String {
        self.token_of(&Pass::new(&[role], &[ACME]))
    }

    pub(crate) fn token_of(&self, pass: &Pass) -> String {
        let token = NewToken {
            subject: pass.subject.clone(),
            name: "Robin".into(),
            practices: pass.practices.clone(),
            roles: pass.roles.clone(),
            patient: pass.patient.as_ref().map(|id| id.parse().unwrap()),
            ttl: if self.emergency.is_some() { pass.ttl.min(EMERGENCY_LIFE) } else { pass.ttl },
        };
        let bond = Bond { certificate: None, emergency: self.emergency.as_ref() };
        self.running().key.issue_bound(&token, ("heedwell", "heedwell"), self.now(), bond)
    }

    /// A caller in the name of the practice.
    pub(crate) fn caller(&self, role: Role) -> Caller {
        self.caller_with(&self.token(role))
    }

    pub(crate) fn caller_with(&self, token: &str) -> Caller {
        Caller::new(self.channel(), token)
    }

    pub(crate) fn sender(&self) -> NotifyServiceClient<Authorised> {
        self.caller(Role::Sender).notify
    }

    pub(crate) fn staff(&self) -> NotifyServiceClient<Authorised> {
        self.caller(Role::Staff).notify
    }

    /// Runs a statement past the server.
    pub(crate) async fn execute(&self, statement: &str) {
        let raw = self.home.raw().await;
        raw.execute_raw(Statement::from_string(raw.get_database_backend(), statement)).await.unwrap();
        raw.close().await.unwrap();
    }

    /// Ends everything and checks what holds after every test.
    pub(crate) async fn end(mut self) {
        if self.running.is_some() {
            self.stop().await;
        }
        self.sandbox.stop().await;
        let store = self.home.open(Time::Injected(self.clock.clone())).await.unwrap();
        let raw = self.home.raw().await;
        let t = TestStore { home: self.home, store, engine: Engine::new(), clock: self.clock, raw };
        invariants::check(&t).await;
        close(t.raw).await;
        t.store.close().await;
        t.home.leave().await;
    }
}

async fn close(raw: DatabaseConnection) {
    raw.close().await.unwrap();
}

/// A connection to a server of this process.
pub(crate) async fn connect(app: &App) -> Channel {
    connect_to(app.grpc_addr).await
}

async fn connect_to(addr: std::net::SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap()
}

/// A further server on the same database.
pub(crate) struct Replica {
    pub(crate) app: App,
    pub(crate) channel: Channel,
}

/// What a server on `home` is told.
pub(crate) fn environment(home: &Home, twilio_url: &str) -> Env {
    let mut env = Env::default();
    // However full the disk is that the tests happen to run on.
    env.set("HEEDWELL_DISK_RESERVE_MIB", "256");
    env.set("HEEDWELL_DATA_DIR", home.path("data").display().to_string());
    env.set("HEEDWELL_DATABASE_URL", home.url.clone());
    env.set("HEEDWELL_MASTER_KEY_FILE", home.path("keys").display().to_string());
    env.set("HEEDWELL_ANCHOR_FILE", home.path("anchors").display().to_string());
    env.set("HEEDWELL_GRPC_ADDR", "127.0.0.1:0");
    env.set("HEEDWELL_HTTP_ADDR", "127.0.0.1:0");
    env.set("HEEDWELL_METRICS_ADDR", "127.0.0.1:0");
    env.set("HEEDWELL_TWILIO_URL", twilio_url);
    env.set("HEEDWELL_ALLOW_PRIVATE_PROVIDERS", "on");
    env.set("HEEDWELL_DRAIN_SECONDS", "0");
    // Many tests send faster than any real number may.
    for name in ["SMS_RATE", "SMS_PER_DAY", "SMS_PER_BLOCK", "CALLS_PER_SECOND"] {
        env.set(&format!("HEEDWELL_{name}"), "unlimited");
    }
    env
}

/// A moment as the contract has it.
pub(crate) fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

/// What a token says.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) subject: String,
    pub(crate) practices: Practices,
    pub(crate) roles: BTreeSet<Role>,
    pub(crate) patient: Option<String>,
    pub(crate) ttl: Duration,
}

impl Pass {
    /// For these practices and in these roles, for longer than any test takes.
    pub(crate) fn new(roles: &[Role], practices: &[&str]) -> Self {
        Self {
            subject: "tester".into(),
            practices: Practices::Named(practices.iter().map(|id| id.parse().unwrap()).collect()),
            roles: roles.iter().copied().collect(),
            patient: None,
            ttl: Duration::from_secs(400 * 24 * 3_600),
        }
    }
}

/// Puts the token on each call; an empty one is left out.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    pub(crate) fn new(token: &str) -> Self {
        Self((!token.is_empty()).then(|| format!("Bearer {token}").parse().unwrap()))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

/// A connection with a token.
pub(crate) type Authorised = InterceptedService<Channel, Bearer>;

/// The services, in the name of one bearer.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) notify: NotifyServiceClient<Authorised>,
    pub(crate) directory: DirectoryServiceClient<Authorised>,
    pub(crate) preferences: PreferencesServiceClient<Authorised>,
    pub(crate) inbox: InboxServiceClient<Authorised>,
    pub(crate) templates: TemplateServiceClient<Authorised>,
    pub(crate) conversations: ConversationsServiceClient<Authorised>,
    pub(crate) audit: AuditServiceClient<Authorised>,
    pub(crate) broadcasts: BroadcastServiceClient<Authorised>,
}

impl Caller {
    pub(crate) fn new(channel: Channel, token: &str) -> Self {
        let service = InterceptedService::new(channel, Bearer::new(token));
        Self {
            notify: NotifyServiceClient::new(service.clone()),
            directory: DirectoryServiceClient::new(service.clone()),
            preferences: PreferencesServiceClient::new(service.clone()),
            inbox: InboxServiceClient::new(service.clone()),
            templates: TemplateServiceClient::new(service.clone()),
            conversations: ConversationsServiceClient::new(service.clone()),
            audit: AuditServiceClient::new(service.clone()),
            broadcasts: BroadcastServiceClient::new(service),
        }
    }
}

/// Runs a test on a server of its own, then checks what holds after every test.
pub(crate) async fn run(backend: Backend, test: impl AsyncFnOnce(&mut TestApp)) {
    let Some(mut t) = TestApp::spawn(backend).await else { return };
    test(&mut t).await;
    t.end().await;
}

/// Writes each test of a whole server: for both databases, or with the name of one before them: `sqlite:` where the
/// database makes no difference, `postgres:` where there must be several servers.
macro_rules! on_a_server {
    (sqlite: $($tests:tt)+) => { $crate::support::app::on_a_server!(@Sqlite $($tests)+); };
    (postgres: $($tests:tt)+) => { $crate::support::app::on_a_server!(@Postgres $($tests)+); };
    (@$backend:ident $(async fn $name:ident($t:ident: &mut TestApp) $body:block)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            async fn test($t: &mut $crate::support::app::TestApp) $body
            $crate::support::app::run($crate::support::Backend::$backend, test).await;
        }
    )+};
    ($(async fn $name:ident($t:ident: &mut TestApp) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn test($t: &mut $crate::support::app::TestApp) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                $crate::support::app::run($crate::support::Backend::Sqlite, test).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                $crate::support::app::run($crate::support::Backend::Postgres, test).await;
            }
        }
    )+};
}

pub(crate) use on_a_server;
