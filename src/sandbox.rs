//! Stand-ins for the providers: a Twilio, a SendGrid, a Firebase Cloud Messaging and a mail relay on real ports, with a journal
//! of all they saw and a control endpoint. They are an independent judge of our clients, so this room shares no code with the rest of the crate.
//! Guarantee: what a stand-in accepted is in the journal before its caller hears of it.
//!
//! All data here is made up. The control endpoint asks for no password: bind it to a loopback address.

mod callbacks;
mod control;
mod fcm;
mod journal;
mod line;
mod magic;
mod odds;
mod rules;
mod sendgrid;
mod signature;
mod smtp;
mod twilio;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::{
    callbacks::{Carrier, Inbound},
    control::Control,
    fcm::Fcm,
    sendgrid::SendGrid,
    smtp::{Bounces, Relay},
    twilio::{Twilio, media},
};
pub use self::{
    fcm::SERVICE_ACCOUNT,
    journal::{Entry, Journal, Outcome, Raw, Stage},
    magic::{
        Answer, Behaviour, End, MAGIC, MagicRecipient, MailEvent, MailPlan, MailReport, PushPlan, Reports,
        SendGridPlan, SmsPlan,
    },
    odds::Odds,
    rules::{Rules, UnknownBehaviour},
};

/// Where the stand-ins listen and how they behave. Port 0 takes any free port.
#[derive(Clone)]
pub struct Settings {
    /// Address of the Twilio stand-in (plain HTTP).
    pub twilio_addr: SocketAddr,
    /// Address of the SendGrid stand-in (plain HTTP).
    pub sendgrid_addr: SocketAddr,
    /// Address of the stand-in for Firebase Cloud Messaging and Google's token endpoint (plain HTTP).
    pub fcm_addr: SocketAddr,
    /// Address of the mail relay.
    pub smtp_addr: SocketAddr,
    /// Address of the control endpoint (plain HTTP, no password).
    pub control_addr: SocketAddr,
    /// File that gets the journal as JSON lines, each synced to disk before the provider answers; `None` keeps it in
    /// memory only.
    pub journal: Option<PathBuf>,
    /// Time between two steps of a text message's life, and the unit of the back-off between callback retries.
    pub carrier_delay: Duration,
    /// Whether the relay offers STARTTLS, with the certificate of [`Sandbox::smtp_certificate_pem`].
    pub smtp_starttls: bool,
    /// User and password that the relay demands; `None` takes mail from anyone.
    pub smtp_login: Option<(String, String)>,
}

impl Default for Settings {
    /// Any free loopback ports, no file, 50 ms between steps, no TLS, no login.
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            twilio_addr: any,
            sendgrid_addr: any,
            fcm_addr: any,
            smtp_addr: any,
            control_addr: any,
            journal: None,
            carrier_delay: Duration::from_millis(50),
            smtp_starttls: false,
            smtp_login: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("twilio_addr", &self.twilio_addr)
            .field("sendgrid_addr", &self.sendgrid_addr)
            .field("fcm_addr", &self.fcm_addr)
            .field("smtp_addr", &self.smtp_addr)
            .field("control_addr", &self.control_addr)
            .field("journal", &self.journal)
            .field("carrier_delay", &self.carrier_delay)
            .field("smtp_starttls", &self.smtp_starttls)
            .finish_non_exhaustive()
    }
}

/// The running stand-ins. Dropping it ends them soon; [`Sandbox::stop`] waits for it.
#[derive(Debug)]
pub struct Sandbox {
    twilio_addr: SocketAddr,
    sendgrid_addr: SocketAddr,
    fcm_addr: SocketAddr,
    smtp_addr: SocketAddr,
    control_addr: SocketAddr,
    sendgrid: Arc<SendGrid>,
    bounces: Arc<Bounces>,
    certificate_pem: Option<String>,
    journal: Journal,
    rules: Rules,
    carrier: Carried,
    stop: DropGuard,
    tasks: TaskTracker,
}

/// The carrier, of which nothing is shown.
struct Carried(Arc<Carrier>);

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

/// A text that a patient sends to a practice.
#[derive(Clone, Copy, Debug)]
pub struct PatientText<'a> {
    /// Where the practice has incoming texts posted to.
    pub webhook_url: &'a str,
    /// The practice's account.
    pub account_sid: &'a str,
    /// Who writes.
    pub from: &'a str,
    /// To which number of the practice.
    pub to: &'a str,
    /// What.
    pub body: &'a str,
}

impl Sandbox {
    /// Binds the five ports and serves them until [`Sandbox::stop`].
    ///
    /// # Errors
    /// A port that is taken, a journal file that cannot be opened, or a TLS set-up that fails.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        // Another part of the process may have chosen a provider already, and any choice will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let twilio = TcpListener::bind(settings.twilio_addr).await?;
        let sendgrid = TcpListener::bind(settings.sendgrid_addr).await?;
        let fcm = TcpListener::bind(settings.fcm_addr).await?;
        let smtp = TcpListener::bind(settings.smtp_addr).await?;
        let control = TcpListener::bind(settings.control_addr).await?;
        let (twilio_addr, sendgrid_addr) = (twilio.local_addr()?, sendgrid.local_addr()?);
        let (fcm_addr, smtp_addr, control_addr) = (fcm.local_addr()?, smtp.local_addr()?, control.local_addr()?);

        let journal = Journal::open(settings.journal.as_deref())?;
        let rules = Rules::default();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let carrier =
            Carrier::new(format!("http://{twilio_addr}"), settings.carrier_delay, &journal, &rules, &tasks, &stop)?;
        let mailer = SendGrid::new(settings.carrier_delay, &journal, &rules, &tasks, &stop)?;
        let pusher = Fcm::new(&format!("http://{fcm_addr}"), &journal, &rules)?;
        let bounces = Bounces::new(settings.carrier_delay, &journal, &rules, &tasks, &stop)?;
        let relay = Relay::new(settings.smtp_starttls, settings.smtp_login, &journal, &rules, bounces)?;
        let bounces = relay.bounces();
        let certificate_pem = relay.certificate_pem().map(str::to_owned);

        tasks.spawn(line::serve(twilio, Twilio::new(carrier.clone()).router(), stop.clone()));
        tasks.spawn(line::serve(sendgrid, Arc::clone(&mailer).router(), stop.clone()));
        tasks.spawn(line::serve(fcm, pusher.router(), stop.clone()));
        let control_router =
            Control::new(Arc::clone(&carrier), Arc::clone(&mailer), Arc::clone(&bounces), stop.clone()).router();
        tasks.spawn(line::serve(control, control_router, stop.clone()));
        tasks.spawn(smtp::serve(smtp, Arc::new(relay), tasks.clone(), stop.clone()));
        let stop = stop.drop_guard();
        Ok(Self {
            twilio_addr,
            sendgrid_addr,
            fcm_addr,
            smtp_addr,
            control_addr,
            sendgrid: mailer,
            bounces,
            certificate_pem,
            journal,
            rules,
            carrier: Carried(carrier),
            stop,
            tasks,
        })
    }

    /// What replaces `https://api.twilio.com`, as `http://ip:port`.
    #[must_use]
    pub fn twilio_url(&self) -> String {
        format!("http://{}", self.twilio_addr)
    }

    /// What replaces `https://api.sendgrid.com`, as `http://ip:port`.
    #[must_use]
    pub fn sendgrid_url(&self) -> String {
        format!("http://{}", self.sendgrid_addr)
    }

    /// Has the event webhook of the account with that API key go to `url`; without this it goes nowhere. Yields the key that
    /// verifies it, as SendGrid shows it: the same for the same API key.
    #[must_use]
    pub fn sendgrid_webhook(&self, api_key: &str, url: &str) -> String {
        self.sendgrid.set_webhook(api_key, url)
    }

    /// What replaces `https://fcm.googleapis.com`, as `http://ip:port`.
    #[must_use]
    pub fn fcm_url(&self) -> String {
        format!("http://{}", self.fcm_addr)
    }

    /// What replaces `https://oauth2.googleapis.com/token`.
    #[must_use]
    pub fn google_token_url(&self) -> String {
        format!("http://{}/token", self.fcm_addr)
    }

    /// Has mail to `domain`, such as what bounces, posted to `url` with that secret; without this it goes nowhere.
    pub fn bounce_pipe(&self, domain: &str, url: &str, secret: &str) {
        self.bounces.set(domain, url, secret);
    }

    /// Where the relay listens.
    #[must_use]
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp_addr
    }

    /// Base URL of the control endpoint, as `http://ip:port`.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control_addr)
    }

    /// The self-signed certificate of the relay, to be trusted as a root, for the names `localhost` and `127.0.0.1`.
    /// `None` without STARTTLS.
    #[must_use]
    pub fn smtp_certificate_pem(&self) -> Option<&str> {
        self.certificate_pem.as_deref()
    }

    /// Has a patient text a practice whose account has been used before. Yields what its server answered in the end.
    pub async fn text(&self, text: PatientText<'_>) -> Option<u16> {
        let own = str::to_owned;
        let inbound = Inbound {
            url: own(text.webhook_url),
            account_sid: own(text.account_sid),
            from: own(text.from),
            to: own(text.to),
            body: own(text.body),
            service: None,
            opt_out_type: None,
            media: Vec::new(),
        };
        let (_, reply) = self.carrier.0.inbound(inbound).await;
        reply.map(|reply| reply.http_status)
    }

    /// Where an account finds the file with that name which came with a message; unset: there is no such file.
    #[must_use]
    pub fn media_url(&self, account_sid: &str, message_sid: &str, name: &str) -> Option<String> {
        Some(media::by_name(name)?.url(&self.twilio_url(), account_sid, message_sid))
    }

    /// What the stand-ins saw and did.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How the stand-ins treat each recipient and account.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Cuts every connection, ends every task and waits for them.
    pub async fn stop(self) {
        self.stop.disarm().cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests;
