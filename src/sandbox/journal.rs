//! The journal: everything the stand-ins accepted, refused and sent, in order. Guarantee: with a file, an entry is on
//! disk before [`Journal::append`] returns, so a killed stand-in forgets nothing that it acknowledged.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

/// One thing that happened at a stand-in. As JSON it is an object with the tag `event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    /// Twilio took a message: the patient's phone will ring, whatever the caller was told.
    TwilioCreate {
        account: String,
        to: String,
        from: Option<String>,
        service: Option<String>,
        body: String,
        /// Where the files are.
        #[serde(default)]
        media: Vec<String>,
        status_callback: Option<String>,
        /// `ValidityPeriod` in seconds.
        validity: Option<u32>,
        sid: String,
        /// What the caller was told.
        outcome: Outcome,
        /// How many accepted messages carried this callback's token so far, this one included; 0 without a token.
        token_uses: usize,
    },
    /// Twilio came for a file of a message, and got this.
    TwilioMedia {
        sid: String,
        url: String,
        /// Unset: no answer.
        http_status: Option<u16>,
        media_type: Option<String>,
        content: Raw,
    },
    /// Somebody with the account's log-in asked for a file that came with a message.
    TwilioMediaAsked { message: String, media: String },
    /// Twilio refused a request and took nothing.
    TwilioRefused { account: String, to: Option<String>, http_status: u16, code: u32, why: String },
    /// Several accepted messages share one callback token: one attempt was sent more than once.
    TokenReused {
        token: String,
        /// The messages, oldest first.
        sids: Vec<String>,
    },
    /// Twilio posted a status callback or an inbound text.
    CallbackSent {
        sid: String,
        status: String,
        /// 1 for the first try of this event.
        attempt: u32,
        http_status: Option<u16>,
        error: Option<String>,
    },
    /// SendGrid took a mail: the patient will have it, whatever the caller was told.
    SendGridMail {
        to: String,
        /// The custom arguments, which its events repeat.
        custom_args: BTreeMap<String, String>,
        /// As `X-Message-Id` says it.
        message_id: String,
        /// The whole request.
        mail: serde_json::Value,
        /// What the caller was told.
        outcome: Outcome,
        /// How many accepted mails carried these custom arguments so far, this one included; 0 without any.
        token_uses: usize,
    },
    /// SendGrid refused a request and took nothing.
    SendGridRefused { to: Option<String>, http_status: u16, why: String },
    /// SendGrid posted a batch of events.
    EventsSent {
        /// Their words.
        words: Vec<String>,
        message_id: String,
        /// 1 for the first try of this batch.
        attempt: u32,
        http_status: Option<u16>,
        error: Option<String>,
    },
    /// FCM took a message: the device will show it, whatever the caller was told.
    FcmMessage {
        /// Of the device.
        token: String,
        /// The message's, as the answer has it.
        name: String,
        /// The whole message.
        message: serde_json::Value,
        /// What the caller was told.
        outcome: Outcome,
        /// How many accepted messages for the device had the same tag so far, this one included.
        uses: usize,
    },
    /// FCM refused a request and took nothing.
    FcmRefused { token: Option<String>, http_status: u16, why: String },
    /// Google was asked for an access token, and said why not, if it gave none.
    GoogleToken { why: Option<String> },
    /// The relay stored a mail.
    SmtpMessage {
        mail_from: String,
        rcpt_to: Vec<String>,
        /// What reports are to name the mail by, and which are wanted; unset: the client said nothing about it.
        envelope_id: Option<String>,
        notify: Option<String>,
        /// The mail after dot-unstuffing, without the final dot.
        raw: Raw,
        tls: bool,
        login: Option<String>,
        message_id: Option<String>,
        /// The reply to the dot; `None` when the relay hung up instead.
        reply: Option<String>,
    },
    /// A mail host reported about a mail that the relay stored.
    ReportSent {
        /// Where the mail came from.
        to: String,
        /// What became of it.
        action: String,
        /// The enhanced status code.
        status: String,
        /// 1 for the first try of this report.
        attempt: u32,
        http_status: Option<u16>,
        error: Option<String>,
    },
    /// The relay refused a step of the dialogue and stored nothing.
    SmtpRefused {
        stage: Stage,
        recipient: Option<String>,
        /// `None` when the relay hung up instead.
        reply: Option<String>,
    },
}

/// What Twilio, SendGrid or FCM told the caller about a message that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// That it was taken.
    Created,
    /// 500.
    Failed,
    /// Nothing: the connection was cut.
    Dropped,
}

/// The step at which the relay refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    StartTls,
    Auth,
    Mail,
    Rcpt,
    /// The DATA command, or the mail before its final dot.
    Data,
    /// After the final dot.
    Content,
}

/// The bytes of a mail, readable in JSON wherever they are UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raw {
    /// The bytes as they came.
    Text(String),
    /// Standard base64 of bytes that are not UTF-8.
    Base64(String),
}

impl Raw {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|other| Self::Base64(BASE64_STANDARD.encode(other.as_bytes())), Self::Text)
    }

    /// The bytes as they came over the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Base64(text) => BASE64_STANDARD.decode(text).unwrap_or_default(),
        }
    }
}

/// A shared handle to the journal.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    log: Mutex<Log>,
    // The number of entries ever appended. It says "look again" and carries nothing else.
    length: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Log {
    file: Option<File>,
    cleared: u64,
    entries: Vec<Entry>,
    times: Vec<DateTime<Utc>>,
}

/// An entry as it stands in the file and in the control endpoint's answers.
#[derive(Serialize)]
struct Recorded<'a> {
    position: u64,
    time: DateTime<Utc>,
    #[serde(flatten)]
    entry: &'a Entry,
}

impl Journal {
    /// A journal that also appends to `path`, if there is one.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
        let log = Mutex::new(Log { file, ..Log::default() });
        Ok(Self(Arc::new(Inner { log, length: watch::Sender::new(0) })))
    }

    /// Adds an entry and wakes the waiting. With a file this blocks for one sync to disk, on purpose: the order in the
    /// file is the order in memory, and nobody is answered before it is written.
    pub(super) fn append(&self, entry: Entry) {
        let mut log = self.log();
        let position = log.length();
        let time = now();
        if let Err(error) = log.write(&Recorded { position, time, entry: &entry }) {
            tracing::error!(%error, "the journal's file cannot be written");
        }
        log.entries.push(entry);
        log.times.push(time);
        // Sent under the lock, so that the number seen by waiters never falls.
        self.0.length.send_replace(position + 1);
    }

    /// All entries since the start or the last [`Journal::clear`].
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.log().entries.clone()
    }

    /// Forgets the entries in memory. A file keeps them.
    pub fn clear(&self) {
        let mut log = self.log();
        log.cleared = log.length();
        log.entries.clear();
        log.times.clear();
    }

    /// Waits until `condition` holds for the entries and returns them, or `None` after `limit`. The condition is asked
    /// once at the start and again after each new entry; it must not call the journal.
    pub async fn wait_for(&self, limit: Duration, condition: impl Fn(&[Entry]) -> bool) -> Option<Vec<Entry>> {
        let mut length = self.0.length.subscribe();
        let found = async {
            loop {
                length.borrow_and_update();
                if let Some(entries) = self.entries_if(&condition) {
                    return Some(entries);
                }
                length.changed().await.ok()?;
            }
        };
        timeout(limit, found).await.ok().flatten()
    }

    /// Entries from position `after` on, as JSON, and the position after the last one. Waits up to `wait` for the first.
    pub(super) async fn page(&self, after: u64, wait: Duration) -> (Vec<serde_json::Value>, u64) {
        let mut length = self.0.length.subscribe();
        // Both ends of the wait, the entry and the time-out, lead to the same read.
        let _ = timeout(wait, length.wait_for(|length| *length > after)).await;
        let log = self.log();
        let recorded = log.entries.iter().zip(&log.times).zip(log.cleared..);
        let page = recorded.filter(|&(_, position)| position >= after);
        let page = page.map(|((entry, &time), position)| Recorded { position, time, entry });
        (page.filter_map(|recorded| serde_json::to_value(recorded).ok()).collect(), log.length())
    }

    fn entries_if(&self, condition: impl Fn(&[Entry]) -> bool) -> Option<Vec<Entry>> {
        let log = self.log();
        condition(&log.entries).then(|| log.entries.clone())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn length(&self) -> u64 {
        self.cleared + self.entries.len() as u64
    }

    fn write(&mut self, recorded: &Recorded<'_>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut line = serde_json::to_vec(recorded)?;
        line.push(b'\n');
        file.write_all(&line)?;
        // A callback acknowledges nothing: what it tells was synced when it was taken.
        let told = matches!(recorded.entry, Entry::CallbackSent { .. } | Entry::EventsSent { .. });
        if told { Ok(()) } else { file.sync_data() }
    }
}

/// The wall time.
pub(super) fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}
