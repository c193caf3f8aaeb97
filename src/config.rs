//! Settings from the environment and the command line. Each room says what it needs; here it is filled in, every default
//! stands here, and all faults are reported together, each with the name of its variable.

mod custody;
mod env;
mod faults;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::TimeDelta;
use url::Url;

use crate::{
    auth,
    auth::JwksSource,
    crypto::DATA_KEY_USES,
    dispatch,
    dispatch::SmsRate,
    duties, http, ports,
    ports::{Tls, TlsFiles},
    providers,
    service::{admission, consent, watch},
    store,
    store::Reserve,
    telemetry::{self, Telemetry},
};

pub use env::Env;
pub use faults::{Fault, Faults};

/// Where Twilio's API is.
const TWILIO: &str = "https://api.twilio.com";
/// Where SendGrid's API is. Accounts in the European Union have another.
const SENDGRID: &str = "https://api.sendgrid.com";
/// Where the API of Firebase Cloud Messaging is.
const FCM: &str = "https://fcm.googleapis.com";
/// Where Google gives out access tokens.
const GOOGLE_TOKEN: &str = "https://oauth2.googleapis.com/token";

/// Everything that a server needs to know before it starts.
#[derive(Debug)]
pub struct Config {
    /// Where gRPC is served.
    pub grpc_addr: SocketAddr,
    /// Where the sidecar is served.
    pub http_addr: SocketAddr,
    /// Where metrics are shown; unset: nowhere.
    pub metrics_addr: Option<SocketAddr>,
    /// Under which address providers and patients reach the sidecar, without a slash at the end. Unset: the sidecar's own
    /// address, once it is known.
    pub public_url: Option<String>,
    /// Where files are kept that were not placed elsewhere.
    pub data_dir: PathBuf,
    /// The master keys.
    pub custody: crate::custody::Settings,
    /// TLS of the gRPC port.
    pub tls: Option<Tls>,
    /// Connections of both ports.
    pub ports: ports::Settings,
    /// The sidecar.
    pub http: http::Settings,
    /// The database.
    pub store: store::Settings,
    /// Callers' tokens.
    pub auth: auth::Settings,
    /// The providers.
    pub providers: providers::Settings,
    /// Sending; its public address is filled in once it is known.
    pub dispatch: dispatch::Settings,
    /// What the server does by itself.
    pub duties: duties::Settings,
    /// What is taken on.
    pub admission: admission::Settings,
    /// Watches.
    pub watch: watch::Settings,
    /// How long opt-outs wait.
    pub consent: consent::Settings,
    /// Logs, metrics and traces.
    pub telemetry: telemetry::Settings,
    /// How long the server stays reachable after it was told to stop, so that load balancers notice.
    pub drain: Duration,
}

/// The variables, in the order of the README's table.
pub const VARIABLES: [&str; 37] = [
    "HEEDWELL_DATABASE_URL",
    "HEEDWELL_DATA_DIR",
    "HEEDWELL_GRPC_ADDR",
    "HEEDWELL_HTTP_ADDR",
    "HEEDWELL_METRICS_ADDR",
    "HEEDWELL_PUBLIC_URL",
    "HEEDWELL_MASTER_KEY_FILE",
    "HEEDWELL_MASTER_KEY_COMMAND",
    "HEEDWELL_VAULT_URL",
    "HEEDWELL_VAULT_KEY",
    "HEEDWELL_VAULT_TOKEN_FILE",
    "HEEDWELL_VAULT_CA_FILE",
    "HEEDWELL_ANCHOR_FILE",
    "HEEDWELL_JWKS",
    "HEEDWELL_JWT_ISSUER",
    "HEEDWELL_JWT_AUDIENCE",
    "HEEDWELL_EMERGENCY_KEY_FILE",
    "HEEDWELL_TLS_CERT_FILE",
    "HEEDWELL_TLS_KEY_FILE",
    "HEEDWELL_TLS_CLIENT_CA_FILE",
    "HEEDWELL_TWILIO_URL",
    "HEEDWELL_SENDGRID_URL",
    "HEEDWELL_FCM_URL",
    "HEEDWELL_GOOGLE_TOKEN_URL",
    "HEEDWELL_ALLOW_PRIVATE_PROVIDERS",
    "HEEDWELL_CONTENT_RETENTION",
    "HEEDWELL_HISTORY_RETENTION",
    "HEEDWELL_SMS_REGIONS",
    "HEEDWELL_SMS_RATE",
    "HEEDWELL_SMS_PER_DAY",
    "HEEDWELL_SMS_PER_BLOCK",
    "HEEDWELL_CALLS_PER_SECOND",
    "HEEDWELL_MAX_OPEN_DELIVERIES",
    "HEEDWELL_DISK_RESERVE_MIB",
    "HEEDWELL_DRAIN_SECONDS",
    "HEEDWELL_LOG_FORMAT",
    "RUST_LOG",
];

/// How long texts are kept, and for how many days at least: no file goes while its message may still be under way, or is told in the
/// feed.
const CONTENT_RETENTION: (&str, i64) = ("HEEDWELL_CONTENT_RETENTION", 7);

/// The same of histories: providers and relays tell for days what became of a message, and look up by its attempt which it was.
const HISTORY_RETENTION: (&str, i64) = ("HEEDWELL_HISTORY_RETENTION", 30);

/// Where gRPC is served, and the default.
const GRPC_ADDR: (&str, &str) = ("HEEDWELL_GRPC_ADDR", "127.0.0.1:50051");

/// Where the sidecar is served, and the default.
const HTTP_ADDR: (&str, &str) = ("HEEDWELL_HTTP_ADDR", "127.0.0.1:8080");

/// Reads the configuration of a server.
///
/// # Errors
/// [`Faults`]: every bad value, each with its variable and what to do.
pub fn read(env: &Env, migrate: bool) -> Result<Config, Faults> {
    let mut faults = Faults::default();
    env.refuse_unknown(&VARIABLES, &mut faults);
    let data_dir = data_dir(env);
    let grpc_addr = address(env, GRPC_ADDR.0, GRPC_ADDR.1, &mut faults);
    let http_addr = address(env, HTTP_ADDR.0, HTTP_ADDR.1, &mut faults);
    let loopback = grpc_addr.ip().is_loopback() && http_addr.ip().is_loopback();
    let public_url = public_url(env, http_addr, &mut faults);
    let allow_private = env.flag("HEEDWELL_ALLOW_PRIVATE_PROVIDERS", &mut faults);
    let config = Config {
        grpc_addr,
        http_addr,
        metrics_addr: metrics_addr(env, &mut faults),
        custody: custody::settings(env, loopback, &mut faults),
        tls: tls(env, loopback, &mut faults),
        ports: ports::Settings::default(),
        http: http::Settings::default(),
        store: store_settings(env, &data_dir, migrate, &mut faults),
        auth: auth_settings(env, loopback, &mut faults),
        providers: providers_settings(env, allow_private, &mut faults),
        dispatch: dispatch::Settings {
            sms_rate: sms_rate(env, &mut faults),
            ..dispatch::Settings::new(public_url.clone().unwrap_or_default())
        },
        duties: duties::Settings {
            anchor_file: anchor_file(env, &mut faults),
            content_retention: retention(env, CONTENT_RETENTION, &mut faults),
            history_retention: retention(env, HISTORY_RETENTION, &mut faults),
        },
        admission: admission::Settings {
            open_deliveries: env
                .number("HEEDWELL_MAX_OPEN_DELIVERIES", 1..=1_000_000_000, 1_000_000, &mut faults)
                .cast_signed(),
            calls_per_second: limit(env, "HEEDWELL_CALLS_PER_SECOND", 1_000_000, 2_000, &mut faults),
            texts_per_day: limit(env, "HEEDWELL_SMS_PER_DAY", 1_000_000_000, 50_000, &mut faults).map(i64::from),
            texts_per_block: limit(env, "HEEDWELL_SMS_PER_BLOCK", 1_000_000, 200, &mut faults),
        },
        consent: consent::Settings::default(),
        watch: watch::Settings::default(),
        telemetry: telemetry_settings(env, &mut faults),
        drain: Duration::from_secs(env.number("HEEDWELL_DRAIN_SECONDS", 0..=60, 5, &mut faults)),
        public_url,
        data_dir,
    };
    if faults.is_empty() { Ok(hastened(config)) } else { Err(faults) }
}

/// With the times and numbers that a chaos run gave, in a build that knows them.
fn hastened(mut config: Config) -> Config {
    config.store.lease = dialled!("lease", config.store.lease);
    config.dispatch.slots = counted!("slots", config.dispatch.slots);
    config.dispatch.start_limit = dialled!("start", config.dispatch.start_limit);
    config.dispatch.look_poll = dialled!("look_poll", config.dispatch.look_poll);
    config.providers.connect_timeout = dialled!("connect", config.providers.connect_timeout);
    config.providers.call_timeout = dialled!("call", config.providers.call_timeout);
    config
}

/// `HEEDWELL_DATA_DIR`.
#[must_use]
pub fn data_dir(env: &Env) -> PathBuf {
    PathBuf::from(env.text("HEEDWELL_DATA_DIR").unwrap_or("heedwell-data"))
}

/// The file of the key that signs local tokens.
#[must_use]
pub fn local_key(data_dir: &Path) -> PathBuf {
    data_dir.join("signing-key")
}

/// `HEEDWELL_EMERGENCY_KEY_FILE`: the file of the key that signs tokens for emergencies.
#[must_use]
pub fn emergency_key(env: &Env) -> Option<PathBuf> {
    env.text("HEEDWELL_EMERGENCY_KEY_FILE").map(PathBuf::from)
}

/// `HEEDWELL_GRPC_ADDR`.
///
/// # Errors
/// When it is not an address.
pub fn grpc_addr(env: &Env) -> Result<SocketAddr, Faults> {
    let mut faults = Faults::default();
    let addr = address(env, GRPC_ADDR.0, GRPC_ADDR.1, &mut faults);
    if faults.is_empty() { Ok(addr) } else { Err(faults) }
}

/// `HEEDWELL_HTTP_ADDR`.
///
/// # Errors
/// When it is not an address.
pub fn http_addr(env: &Env) -> Result<SocketAddr, Faults> {
    let mut faults = Faults::default();
    let addr = address(env, HTTP_ADDR.0, HTTP_ADDR.1, &mut faults);
    if faults.is_empty() { Ok(addr) } else { Err(faults) }
}

/// Who must have issued a token, and for whom.
#[must_use]
pub fn issuer_and_audience(env: &Env) -> (String, String) {
    let or = |name: &str| env.text(name).unwrap_or("heedwell").to_owned();
    (or("HEEDWELL_JWT_ISSUER"), or("HEEDWELL_JWT_AUDIENCE"))
}

fn address(env: &Env, name: &'static str, default: &str, faults: &mut Faults) -> SocketAddr {
    let text = env.text(name).unwrap_or(default);
    text.parse().unwrap_or_else(|_| {
        faults.add(name, "must be an address and a port, for example 0.0.0.0:50051");
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

/// Metrics tell of no practice and of nobody, so that they need no key; but who sees them sees how much goes on.
fn metrics_addr(env: &Env, faults: &mut Faults) -> Option<SocketAddr> {
    const NAME: &str = "HEEDWELL_METRICS_ADDR";
    if env.text(NAME) == Some("off") { None } else { Some(address(env, NAME, "127.0.0.1:9464", faults)) }
}

fn public_url(env: &Env, http_addr: SocketAddr, faults: &mut Faults) -> Option<String> {
    const NAME: &str = "HEEDWELL_PUBLIC_URL";
    let Some(text) = env.text(NAME) else {
        if !http_addr.ip().is_loopback() {
            faults.add(NAME, "must be set when HEEDWELL_HTTP_ADDR is not a loopback address: providers call it back");
        }
        return None;
    };
    let local = |url: &Url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    };
    let bare = |url: &Url| {
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
    };
    match Url::parse(text) {
        Ok(url) if bare(&url) && (url.scheme() == "https" || (url.scheme() == "http" && local(&url))) => {
            Some(text.trim_end_matches('/').to_owned())
        }
        _ => {
            faults.add(NAME, "must be an https URL without user, query or fragment (http only on a loopback address)");
            None
        }
    }
}

fn tls(env: &Env, loopback: bool, faults: &mut Faults) -> Option<Tls> {
    let mut file = |name: &'static str| {
        let path = PathBuf::from(env.text(name)?);
        if std::fs::read_to_string(&path).is_err() {
            faults.add(name, "must name a PEM file that can be read");
            return None;
        }
        Some(path)
    };
    let (chain, key) = (file("HEEDWELL_TLS_CERT_FILE"), file("HEEDWELL_TLS_KEY_FILE"));
    let authority = file("HEEDWELL_TLS_CLIENT_CA_FILE");
    let named = |name| env.text(name).is_some();
    match (named("HEEDWELL_TLS_CERT_FILE"), named("HEEDWELL_TLS_KEY_FILE")) {
        (true, false) => faults.add("HEEDWELL_TLS_KEY_FILE", "must be set with HEEDWELL_TLS_CERT_FILE"),
        (false, true) => faults.add("HEEDWELL_TLS_CERT_FILE", "must be set with HEEDWELL_TLS_KEY_FILE"),
        (false, false) if named("HEEDWELL_TLS_CLIENT_CA_FILE") => {
            faults.add("HEEDWELL_TLS_CERT_FILE", "must be set with HEEDWELL_TLS_CLIENT_CA_FILE");
        }
        (false, false) if !loopback => {
            tracing::warn!(
                "gRPC is served without TLS on an address that is not a loopback address: put TLS before it"
            );
        }
        _ => {}
    }
    let tls = Tls::new(TlsFiles { chain: chain?, key: key?, authority });
    // Which of the files it is, only a person can tell.
    tls.inspect_err(|error| {
        let files = "HEEDWELL_TLS_CERT_FILE, HEEDWELL_TLS_KEY_FILE or HEEDWELL_TLS_CLIENT_CA_FILE";
        faults.add(files, format!("cannot be used: {error}"));
    })
    .ok()
}

fn store_settings(env: &Env, data_dir: &Path, migrate: bool, faults: &mut Faults) -> store::Settings {
    const NAME: &str = "HEEDWELL_DATABASE_URL";
    let database_url = match env.text(NAME) {
        None | Some("sqlite:") => format!("sqlite:{}", data_dir.join("heedwell.db").display()),
        Some(url) => url.to_owned(),
    };
    let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| database_url.starts_with(scheme));
    if !known || database_url.contains(":memory:") {
        faults.add(NAME, "must be sqlite:PATH or postgres://USER@HOST/DATABASE");
    }
    let regions = env.text("HEEDWELL_SMS_REGIONS").unwrap_or("US,CA");
    let sms_regions: Vec<String> = regions.split(',').map(|region| region.trim().to_owned()).collect();
    if !sms_regions.iter().all(|region| region.len() == 2 && region.bytes().all(|byte| byte.is_ascii_uppercase())) {
        faults.add("HEEDWELL_SMS_REGIONS", "must be ISO 3166 codes joined by commas, for example US,CA");
    }
    // A call may begin 15 s after its claim and take 30 s; a lease that ends before would be taken over in mid-call.
    let lease = Duration::from_secs(60);
    let reserve = disk_reserve(env, faults);
    store::Settings {
        database_url,
        migrate,
        sms_regions,
        lease,
        connections: 16,
        hints: true,
        reserve,
        key_uses: DATA_KEY_USES,
        telemetry: Telemetry::default(),
    }
}

fn disk_reserve(env: &Env, faults: &mut Faults) -> Reserve {
    const NAME: &str = "HEEDWELL_DISK_RESERVE_MIB";
    let bytes = env.number(NAME, 8..=1 << 20, 256, faults) << 20;
    let percent = if env.text(NAME).is_some() { 0 } else { Reserve::default().percent };
    Reserve { bytes, percent }
}

fn anchor_file(env: &Env, faults: &mut Faults) -> Option<PathBuf> {
    const NAME: &str = "HEEDWELL_ANCHOR_FILE";
    let path = PathBuf::from(env.text(NAME)?);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() || path.is_dir() {
        faults.add(NAME, "must name a file in a folder that is there");
    }
    Some(path)
}

/// How long something is kept, in days.
fn retention(env: &Env, (name, least): (&'static str, i64), faults: &mut Faults) -> Option<TimeDelta> {
    let days = match env.text(name)? {
        "off" => return None,
        text => text.strip_suffix('d').and_then(|days| days.parse().ok()),
    };
    let days = days.filter(|days| (least..=36_500).contains(days));
    if days.is_none() {
        faults.add(name, format!("must be off, or a number of days from {least}d to 36500d, for example 90d"));
    }
    days.map(TimeDelta::days)
}

/// A number from 1 on, or none at all.
fn limit(env: &Env, name: &'static str, most: u32, default: u32, faults: &mut Faults) -> Option<u32> {
    match env.text(name) {
        None => Some(default),
        Some("unlimited") => None,
        Some(text) => {
            let number = text.parse().ok().filter(|number| (1..=most).contains(number));
            if number.is_none() {
                faults.add(name, format!("must be unlimited, or a whole number from 1 to {most}"));
            }
            number
        }
    }
}

fn sms_rate(env: &Env, faults: &mut Faults) -> SmsRate {
    const NAME: &str = "HEEDWELL_SMS_RATE";
    match env.text(NAME) {
        None | Some("auto") => SmsRate::Auto,
        Some("unlimited") => SmsRate::Unlimited,
        Some(text) => match text.parse() {
            Ok(rate) if (0.1..=1_000.0).contains(&rate) => SmsRate::Segments(rate),
            _ => {
                faults.add(NAME, "must be auto, unlimited, or segments per second and sender, from 0.1 to 1000");
                SmsRate::Auto
            }
        },
    }
}

fn auth_settings(env: &Env, loopback: bool, faults: &mut Faults) -> auth::Settings {
    const NAME: &str = "HEEDWELL_JWKS";
    let jwks = env.text(NAME).and_then(|source| match Url::parse(source) {
        Ok(url) if url.scheme() == "https" => Some(JwksSource::Url(url)),
        Ok(url) if url.has_host() => {
            faults.add(NAME, "must be a file or an https URL");
            None
        }
        _ => Some(JwksSource::File(PathBuf::from(source))),
    });
    if let Some(JwksSource::File(path)) = &jwks
        && !path.is_file()
    {
        faults.add(NAME, "must name a file that can be read, or an https URL");
    }
    if env.text(NAME).is_none() && !loopback {
        faults.add(
            NAME,
            "must be set: tokens of the local key are trusted only while both addresses are loopback addresses",
        );
    }
    let (issuer, audience) = issuer_and_audience(env);
    // The local key is for a start without an identity provider: once there is one, it alone is trusted.
    let local_key = jwks.is_none().then(|| local_key(&data_dir(env)));
    let emergency_key = emergency_key(env);
    auth::Settings { jwks, issuer, audience, leeway: Duration::from_secs(30), local_key, emergency_key }
}

fn providers_settings(env: &Env, allow_private: bool, faults: &mut Faults) -> providers::Settings {
    let mut url = |name, real| provider_url(env, (name, real), allow_private, faults);
    let urls = providers::Urls {
        twilio: url("HEEDWELL_TWILIO_URL", TWILIO),
        sendgrid: url("HEEDWELL_SENDGRID_URL", SENDGRID),
        fcm: url("HEEDWELL_FCM_URL", FCM),
        google_token: url("HEEDWELL_GOOGLE_TOKEN_URL", GOOGLE_TOKEN),
    };
    providers::Settings { allow_private, ..providers::Settings::new(urls) }
}

/// Where a provider's API is: what the variable says, or else the real one.
fn provider_url(
    env: &Env,
    (name, real): (&'static str, &'static str),
    allow_private: bool,
    faults: &mut Faults,
) -> Url {
    let usable = |url: &Url| url.has_host() && (url.scheme() == "https" || (allow_private && url.scheme() == "http"));
    let url = Url::parse(env.text(name).unwrap_or(real)).ok().filter(usable).or_else(|| {
        faults.add(name, "must be an https URL (http only with HEEDWELL_ALLOW_PRIVATE_PROVIDERS)");
        Url::parse(real).ok()
    });
    #[expect(clippy::expect_used, reason = "the default is a constant that parses")]
    url.expect("a URL")
}

fn telemetry_settings(env: &Env, faults: &mut Faults) -> telemetry::Settings {
    let json = match env.text("HEEDWELL_LOG_FORMAT") {
        None | Some("text") => false,
        Some("json") => true,
        Some(_) => {
            faults.add("HEEDWELL_LOG_FORMAT", "must be text or json");
            false
        }
    };
    let (traces_url, metrics_url) = collector(env, faults);
    let filter = env.text("RUST_LOG").unwrap_or_default().to_owned();
    let service = env.text("OTEL_SERVICE_NAME").map(str::to_owned);
    telemetry::Settings { filter, json, service, traces_url, metrics_url }
}

/// Where traces and metrics are sent, as OpenTelemetry's specification of an exporter has it; nowhere by default.
fn collector(env: &Env, faults: &mut Faults) -> (Option<String>, Option<String>) {
    const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    if env.text(PROTOCOL).is_some_and(|protocol| protocol != "grpc") {
        faults.add(PROTOCOL, "must be grpc: nothing else is spoken");
    }
    let off = env.text("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"));
    let mut url = |own: &'static str| {
        const BOTH: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let (name, text) = env.text(own).map(|text| (own, text)).or_else(|| Some((BOTH, env.text(BOTH)?)))?;
        let usable = Url::parse(text).is_ok_and(|url| url.has_host() && matches!(url.scheme(), "http" | "https"));
        if !usable {
            faults.add(name, "must be an http or https URL, for example http://127.0.0.1:4317");
        }
        (usable && !off).then(|| text.to_owned())
    };
    (url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), url("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"))
}

#[cfg(test)]
mod tests;
