//! What is measured, as one struct: instruments of OpenTelemetry, which Prometheus reads and a collector may be sent. Labels are
//! closed sets, never a practice or a person. Durations are in seconds.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter},
};

use crate::domain::{Channel, Class, DeliveryState};

/// Buckets for what somebody waits for, in seconds.
const ANSWERS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets for what waits for its turn, in seconds.
const LAGS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0];

/// How an attempt ended, in words for a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The provider has it.
    Accepted,
    /// The provider will not have it.
    Refused,
    /// The provider cannot have it now; it is tried again.
    Deferred,
    /// Nobody knows yet.
    Unknown,
}

impl AttemptOutcome {
    /// As it stands in labels and spans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Deferred => "deferred",
            Self::Unknown => "unknown",
        }
    }
}

/// How the queue stands, over all practices.
#[derive(Clone, Debug, Default)]
pub struct QueueState {
    /// Of each class how many deliveries are not finished, and how long the oldest that is due has been.
    pub classes: Vec<(Class, i64, Duration)>,
    /// Deliveries whose outcome is being looked into.
    pub unconfirmed: u64,
    /// How long ago the oldest lease ended that nobody has taken over.
    pub expired_lease: Duration,
    /// The largest share of its cap that a data key has used, 0 to 1.
    pub key_use: f64,
    /// Connections to the database: of which pool, in which state, and how many.
    pub connections: Vec<(&'static str, &'static str, u64)>,
    /// Why the database is quiet, if it is: one of [`QUIET`].
    pub quiet: Option<&'static str>,
}

/// Why a database may be quiet.
pub const QUIET: [&str; 3] = ["held", "copy", "moved"];

/// The instruments.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    meter: Meter,
    calls: Histogram<f64>,
    requests: Histogram<f64>,
    attempts: Histogram<f64>,
    settled: Counter<u64>,
    due_lag: Histogram<f64>,
    depth: Gauge<i64>,
    oldest_due: Gauge<f64>,
    unconfirmed: Gauge<u64>,
    reconciliations: Counter<u64>,
    rescued: Counter<u64>,
    expired_lease: Gauge<f64>,
    duplicates: Counter<u64>,
    feed_lag: Histogram<f64>,
    callbacks: Counter<u64>,
    key_use: Gauge<f64>,
    alarms: Counter<u64>,
    connections: Gauge<u64>,
    quiet: Gauge<u64>,
    measured: Gauge<f64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(super) fn new(meter: &Meter) -> Self {
        let seconds = |name: &'static str, what: &'static str, buckets: &[f64]| {
            meter.f64_histogram(name).with_description(what).with_unit("s").with_boundaries(buckets.to_vec()).build()
        };
        let counter = |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        let age = |name: &'static str, what: &'static str| {
            meter.f64_gauge(name).with_description(what).with_unit("s").build()
        };
        let metrics = Self(Arc::new(Instruments {
            meter: meter.clone(),
            calls: seconds(
                "rpc.server.call.duration",
                "From a call's arrival to its answer, or to a stream's beginning.",
                &ANSWERS,
            ),
            requests: seconds(
                "http.server.request.duration",
                "From a request's arrival at the sidecar to its answer.",
                &ANSWERS,
            ),
            attempts: seconds(
                "heedwell.provider.call.duration",
                "Of handing one message to its provider, by how it ended.",
                &ANSWERS,
            ),
            settled: counter("heedwell.deliveries.settled", "Changes of deliveries into a state other than pending."),
            due_lag: seconds("heedwell.due.lag", "From the moment a delivery is due to its claim.", &LAGS),
            depth: meter
                .i64_gauge("heedwell.queue.depth")
                .with_description("Deliveries that are not finished.")
                .build(),
            oldest_due: age("heedwell.oldest.due", "How long the oldest delivery that is due has been due."),
            unconfirmed: meter
                .u64_gauge("heedwell.unconfirmed.open")
                .with_description("Deliveries whose outcome is being looked into.")
                .build(),
            reconciliations: counter(
                "heedwell.reconciliations",
                "Looks at a provider for what became of an attempt, by what they found.",
            ),
            rescued: counter("heedwell.leases.rescued", "Deliveries taken over from a worker that is gone."),
            expired_lease: age(
                "heedwell.oldest.expired.lease",
                "How long ago the oldest lease ended that nobody has taken over.",
            ),
            duplicates: counter(
                "heedwell.duplicates.proven",
                "Deliveries that are known to have reached their provider twice.",
            ),
            feed_lag: seconds(
                "heedwell.feed.lag",
                "From a change's commit to the step of a watch that tells it.",
                &LAGS,
            ),
            callbacks: counter("heedwell.callbacks", "Callbacks of providers, by what became of them."),
            key_use: meter
                .f64_gauge("heedwell.key.use")
                .with_description("The largest share of its cap that a data key has used.")
                .with_unit("1")
                .build(),
            alarms: counter("heedwell.alarms", "Alarms that want a person's eyes."),
            quiet: meter
                .u64_gauge("heedwell.quiet")
                .with_description("1: nothing is sent, since the database is that.")
                .build(),
            measured: age(
                "heedwell.measured.timestamp",
                "When the database was last asked how the queue stands, since 1970.",
            ),
            connections: meter
                .u64_gauge("heedwell.database.connections")
                .with_description("Connections to the database.")
                .build(),
        }));
        metrics.begin_at_nothing(meter);
        metrics
    }

    /// What is counted is there from the beginning: a rule that compares two moments would miss the first of what was not there.
    fn begin_at_nothing(&self, meter: &Meter) {
        let version = [KeyValue::new("version", env!("CARGO_PKG_VERSION"))];
        meter.u64_gauge("heedwell.build.info").with_description("What runs.").build().record(1, &version);
        let it = &self.0;
        it.rescued.add(0, &[]);
        it.duplicates.add(0, &[]);
        for channel in Channel::ALL {
            for state in DeliveryState::ALL.into_iter().filter(|state| *state != DeliveryState::Pending) {
                self.settled(channel, state, 0);
            }
        }
        for outcome in ["found", "absent", "several", "contested", "unreadable", "no_list"] {
            self.reconciled("twilio", outcome, 0);
        }
        for provider in ["twilio", "sendgrid", "smtp"] {
            for outcome in ["accepted", "bad_signature", "malformed", "unavailable"] {
                self.callback(provider, outcome, 0);
            }
        }
        ["most_of_the_day", "day", "velocity", "odd_numbers", "emergency"]
            .into_iter()
            .for_each(|alarm| self.alarm(alarm, 0));
    }

    /// Counts a call that was answered, or a stream that began: its method and the name of its code.
    pub fn call(&self, method: Arc<str>, code: &'static str, took: Duration) {
        let labels = [KeyValue::new("rpc.method", method), KeyValue::new("rpc.response.status_code", code)];
        self.0.calls.record(took.as_secs_f64(), &labels);
    }

    /// Counts a request that the sidecar answered. `route` is the pattern and never the path, which may hold a token.
    pub fn request(&self, route: Arc<str>, status: u16, took: Duration) {
        let labels =
            [KeyValue::new("http.route", route), KeyValue::new("http.response.status_code", i64::from(status))];
        self.0.requests.record(took.as_secs_f64(), &labels);
    }

    /// Counts an attempt that ended.
    pub fn attempt(&self, channel: Channel, provider: &'static str, outcome: AttemptOutcome, took: Duration) {
        let labels = [
            KeyValue::new("channel", word_of(channel)),
            KeyValue::new("provider", provider),
            KeyValue::new("outcome", outcome.name()),
        ];
        self.0.attempts.record(took.as_secs_f64(), &labels);
    }

    /// Counts changes of deliveries into `state`.
    pub fn settled(&self, channel: Channel, state: DeliveryState, count: u64) {
        let labels = [KeyValue::new("channel", word_of(channel)), KeyValue::new("state", word_of_state(state))];
        self.0.settled.add(count, &labels);
    }

    /// Counts a delivery that was claimed so long after it was due.
    pub fn claimed(&self, class: Class, lag: Duration) {
        self.0.due_lag.record(lag.as_secs_f64(), &[KeyValue::new("class", word_of_class(class))]);
    }

    /// Tells how the queue stands now.
    pub fn queue(&self, state: &QueueState) {
        for (class, depth, oldest) in &state.classes {
            let class = [KeyValue::new("class", word_of_class(*class))];
            self.0.depth.record(*depth, &class);
            self.0.oldest_due.record(oldest.as_secs_f64(), &class);
        }
        for (pool, kind, count) in &state.connections {
            self.0.connections.record(*count, &[KeyValue::new("pool", *pool), KeyValue::new("state", *kind)]);
        }
        for reason in QUIET {
            self.0.quiet.record(u64::from(state.quiet == Some(reason)), &[KeyValue::new("reason", reason)]);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0.measured.record(now.as_secs_f64(), &[]);
        self.0.unconfirmed.record(state.unconfirmed, &[]);
        self.0.expired_lease.record(state.expired_lease.as_secs_f64(), &[]);
        self.0.key_use.record(state.key_use, &[]);
    }

    /// Counts looks for what became of an attempt.
    pub fn reconciled(&self, provider: &'static str, outcome: &'static str, count: u64) {
        let labels = [KeyValue::new("provider", provider), KeyValue::new("outcome", outcome)];
        self.0.reconciliations.add(count, &labels);
    }

    /// Counts deliveries that were taken over.
    pub fn rescued(&self, count: u64) {
        self.0.rescued.add(count, &[]);
    }

    /// Counts deliveries that reached their provider twice.
    pub fn duplicates(&self, count: u64) {
        self.0.duplicates.add(count, &[]);
    }

    /// Whoever reads metrics is told how many watches are `open` at that moment.
    pub fn watched(&self, open: impl Fn() -> usize + Send + Sync + 'static) {
        let gauge = self.0.meter.u64_observable_gauge("heedwell.streams.open").with_description("Open watches.");
        gauge.with_callback(move |gauge| gauge.observe(open() as u64, &[])).build();
    }

    /// Counts a change that a watch told so long after its commit.
    pub fn told(&self, lag: Duration) {
        self.0.feed_lag.record(lag.as_secs_f64(), &[]);
    }

    /// Counts callbacks.
    pub fn callback(&self, provider: &'static str, outcome: &'static str, count: u64) {
        let labels = [KeyValue::new("provider", provider), KeyValue::new("outcome", outcome)];
        self.0.callbacks.add(count, &labels);
    }

    /// Counts alarms.
    pub fn alarm(&self, alarm: &'static str, count: u64) {
        self.0.alarms.add(count, &[KeyValue::new("alarm", alarm)]);
    }
}

const fn word_of(channel: Channel) -> &'static str {
    match channel {
        Channel::InApp => "in_app",
        Channel::Email => "email",
        Channel::Sms => "sms",
        Channel::Push => "push",
    }
}

const fn word_of_state(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Unconfirmed => "unconfirmed",
        DeliveryState::Sent => "sent",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Failed => "failed",
        DeliveryState::Skipped => "skipped",
        DeliveryState::Cancelled => "cancelled",
    }
}

const fn word_of_class(class: Class) -> &'static str {
    match class {
        Class::Urgent => "urgent",
        Class::Normal => "normal",
        Class::Bulk => "bulk",
    }
}
