//! What the stand-ins know and may be told: behaviours per recipient, logins, delays. Guarantee: a rule beats the magic
//! of the recipient, from the next request on.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    journal,
    magic::{self, ARRIVED, Behaviour, DELIVERED, MailPlan, PushPlan, SendGridPlan, SmsPlan},
    odds::Odds,
};

/// A shared handle to the rules.
#[derive(Clone, Default)]
pub struct Rules(Arc<Mutex<State>>);

/// There is no behaviour of that name for that kind of recipient; [`MAGIC`](super::MAGIC) lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such behaviour for this kind of recipient")]
pub struct UnknownBehaviour;

struct State {
    behaviours: HashMap<String, Behaviour>,
    logins: HashMap<String, String>,
    met: HashSet<(&'static str, String)>,
    // Senders, each with a recipient who texted STOP to it.
    stopped: HashSet<(String, String)>,
    odds: Option<Odds>,
    // How often each message, or each mailbox, drew its lot.
    tries: HashMap<String, u32>,
    callback_hosts: Vec<String>,
    list_lag: Duration,
    clock_offset: TimeDelta,
    slow_reply: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self {
            behaviours: HashMap::new(),
            logins: HashMap::new(),
            met: HashSet::new(),
            stopped: HashSet::new(),
            odds: None,
            tries: HashMap::new(),
            callback_hosts: Vec::new(),
            list_lag: Duration::ZERO,
            clock_offset: TimeDelta::zero(),
            slow_reply: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

impl Rules {
    /// Treats `recipient` (a whole phone number, mail address or token of a device) as the behaviour called `name` says.
    ///
    /// # Errors
    /// [`UnknownBehaviour`] when no row of the table has that name, or when it is one for the other channel.
    pub fn set(&self, recipient: &str, name: &str) -> Result<(), UnknownBehaviour> {
        let behaviour = magic::by_name(name).ok_or(UnknownBehaviour)?;
        let fits = match behaviour {
            Behaviour::Sms(_) => recipient.starts_with('+'),
            Behaviour::Mail(_) | Behaviour::SendGrid(_) => recipient.contains('@'),
            Behaviour::Push(_) => !recipient.starts_with('+') && !recipient.contains('@'),
        };
        if !fits {
            return Err(UnknownBehaviour);
        }
        self.state().behaviours.insert(recipient.to_lowercase(), behaviour);
        Ok(())
    }

    /// Treats `recipient` by its magic again.
    pub fn clear(&self, recipient: &str) {
        self.state().behaviours.remove(&recipient.to_lowercase());
    }

    /// Sets the Auth Token of a Twilio account: its password, and the key that signs its webhooks. Without this the
    /// password of the account's first login is taken.
    pub fn set_account(&self, account_sid: &str, auth_token: &str) {
        self.state().logins.insert(account_sid.to_owned(), auth_token.to_owned());
    }

    /// How long a new Twilio message is missing from lists. Zero at first.
    pub fn set_list_lag(&self, lag: Duration) {
        self.state().list_lag = lag;
    }

    /// How far the clock of Twilio and SendGrid is ahead (or, if negative, behind). Zero at first.
    pub fn set_clock_offset(&self, offset: TimeDelta) {
        self.state().clock_offset = offset;
    }

    /// How long the relay's `slow` mailbox takes to answer the final dot. Five seconds at first.
    pub fn set_slow_reply(&self, delay: Duration) {
        self.state().slow_reply = delay;
    }

    /// Lets faults come by lot to everyone who has neither rule nor magic.
    pub fn set_odds(&self, odds: Odds) {
        self.state().odds = Some(odds);
    }

    /// Where callbacks go instead of to the host that they name, each to any of these (`ip:port`): a stand-in for the
    /// load balancer before several replicas. The signature stays that of the address asked for.
    pub fn set_callback_hosts(&self, hosts: Vec<String>) {
        self.state().callback_hosts = hosts;
    }

    pub(super) fn sms(&self, to: &str, body: &str) -> SmsPlan {
        let mut state = self.state();
        let plan = match state.behaviours.get(to) {
            Some(&Behaviour::Sms(plan)) => return plan,
            _ => magic::sms_plan(to),
        };
        let Some(odds) = state.odds.filter(|_| plan == DELIVERED) else { return plan };
        let tries = state.tries.entry(format!("{to} {body}")).or_default();
        *tries += 1;
        odds.sms(to, body, *tries)
    }

    /// `address` in lower case.
    pub(super) fn mail(&self, address: &str) -> MailPlan {
        match self.state().behaviours.get(address) {
            Some(&Behaviour::Mail(plan)) => plan,
            _ => magic::mail_plan(address),
        }
    }

    /// The lot of the next mail to an address without magic or rule.
    pub(super) fn mail_lot(&self, address: &str) -> MailPlan {
        let mut state = self.state();
        let Some(odds) = state.odds else { return MailPlan::Accepted };
        let tries = state.tries.entry(address.to_owned()).or_default();
        *tries += 1;
        odds.mail(address, *tries)
    }

    /// `address` in lower case.
    pub(super) fn sendgrid(&self, address: &str) -> SendGridPlan {
        let mut state = self.state();
        let plan = match state.behaviours.get(address) {
            Some(&Behaviour::SendGrid(plan)) => return plan,
            _ => magic::sendgrid_plan(address),
        };
        let Some(odds) = state.odds.filter(|_| plan == ARRIVED) else { return plan };
        let tries = state.tries.entry(format!("sendgrid {address}")).or_default();
        *tries += 1;
        odds.sendgrid(address, *tries)
    }

    /// `token` in lower case.
    pub(super) fn push(&self, token: &str) -> PushPlan {
        match self.state().behaviours.get(token) {
            Some(&Behaviour::Push(plan)) => plan,
            _ => magic::push_plan(token),
        }
    }

    /// How long an ordinary answer takes.
    pub(super) fn reply_time(&self) -> Duration {
        Duration::from_millis(self.state().odds.map_or(0, |odds| odds.reply_ms))
    }

    /// Where a webhook really goes.
    pub(super) fn destination(&self, url: &str) -> String {
        let balanced = self.callback_host().and_then(|host| {
            let mut url = url::Url::parse(url).ok()?;
            let (ip, port) = host.rsplit_once(':')?;
            url.set_host(Some(ip)).ok()?;
            url.set_port(port.parse().ok()).ok()?;
            Some(url.into())
        });
        balanced.unwrap_or_else(|| url.to_owned())
    }

    fn callback_host(&self) -> Option<String> {
        let state = self.state();
        let count = state.callback_hosts.len();
        let chosen = usize::try_from(uuid::Uuid::new_v4().as_u128() % (count.max(1) as u128)).unwrap_or_default();
        state.callback_hosts.get(chosen).cloned()
    }

    /// Whether this is the password of that user. A user seen for the first time is taken at their word.
    pub(super) fn admits(&self, user: &str, password: &str) -> bool {
        self.state().logins.entry(user.to_owned()).or_insert_with(|| password.to_owned()) == password
    }

    pub(super) fn auth_token(&self, account_sid: &str) -> Option<String> {
        self.state().logins.get(account_sid).cloned()
    }

    /// Whether `who` meets the fault called `fault` for the first time.
    pub(super) fn first_time(&self, fault: &'static str, who: &str) -> bool {
        self.state().met.insert((fault, who.to_owned()))
    }

    /// What Twilio itself does on a text of one word: from STOP to START it takes nothing for that pair of sender and recipient
    /// (<https://help.twilio.com/articles/223134027>).
    pub(super) fn hear(&self, sender: &str, recipient: &str, text: &str) {
        const STOP: [&str; 8] = ["STOP", "UNSUBSCRIBE", "END", "QUIT", "STOPALL", "REVOKE", "OPTOUT", "CANCEL"];
        const START: [&str; 3] = ["START", "YES", "UNSTOP"];
        let word = text.trim().to_uppercase();
        let pair = (sender.to_owned(), recipient.to_owned());
        if STOP.contains(&word.as_str()) {
            self.state().stopped.insert(pair);
        } else if START.contains(&word.as_str()) {
            self.state().stopped.remove(&pair);
        }
    }

    /// Whether the recipient texted STOP to that sender.
    pub(super) fn is_stopped(&self, sender: &str, recipient: &str) -> bool {
        self.state().stopped.contains(&(sender.to_owned(), recipient.to_owned()))
    }

    pub(super) fn list_lag(&self) -> Duration {
        self.state().list_lag
    }

    pub(super) fn slow_reply(&self) -> Duration {
        self.state().slow_reply
    }

    /// The time at Twilio and SendGrid.
    pub(super) fn provider_now(&self) -> DateTime<Utc> {
        journal::now() + self.state().clock_offset
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
