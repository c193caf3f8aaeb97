//! Mail that comes back: what a mail host reports to the address that a mail was sent from (RFC 3464), handed over the way a
//! mail system does that is told to pipe such mail to a web address. Guarantee: every try is journalled.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{header, redirect};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::sandbox::{
    journal::{Entry, Journal},
    magic::MailReport,
    rules::Rules,
};

const TOTAL_LIMIT: Duration = Duration::from_secs(15);
/// A mail system keeps trying for days; a stand-in does not live that long.
const TRIES: u32 = 6;

/// A mail that was taken, as far as reports about it tell.
pub(super) struct Taken {
    pub(super) mail_from: String,
    pub(super) recipient: String,
    pub(super) envelope_id: Option<String>,
    pub(super) content: Vec<u8>,
}

/// Who takes mail for a domain: a web address, and what has to be shown there.
#[derive(Clone)]
struct Pipe {
    url: String,
    secret: String,
}

/// Sends reports back.
pub(in crate::sandbox) struct Bounces {
    pipes: Mutex<HashMap<String, Pipe>>,
    journal: Journal,
    rules: Rules,
    http: reqwest::Client,
    delay: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Bounces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bounces").finish_non_exhaustive()
    }
}

impl Bounces {
    pub(in crate::sandbox) fn new(
        delay: Duration,
        journal: &Journal,
        rules: &Rules,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(TOTAL_LIMIT)
            .no_proxy()
            .user_agent("curl/8.14.1")
            .build()
            .map_err(io::Error::other)?;
        let (journal, rules, tasks, stop) = (journal.clone(), rules.clone(), tasks.clone(), stop.clone());
        Ok(Self { pipes: Mutex::default(), journal, rules, http, delay, tasks, stop })
    }

    /// Has mail to any address of `domain` posted to `url`.
    pub(in crate::sandbox) fn set(&self, domain: &str, url: &str, secret: &str) {
        let pipe = Pipe { url: url.to_owned(), secret: secret.to_owned() };
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner).insert(domain.to_lowercase(), pipe);
    }

    /// Sends the reports about a mail, one after the other, on a task that ends with the stand-in. They go nowhere while nobody
    /// takes mail for where they go.
    pub(super) fn report(self: &Arc<Self>, taken: Taken, reports: &'static [MailReport]) {
        let domain = taken.mail_from.rsplit('@').next().unwrap_or_default().to_lowercase();
        let pipe = self.pipes.lock().unwrap_or_else(PoisonError::into_inner).get(&domain).cloned();
        let Some(pipe) = pipe else { return };
        let (bounces, stop) = (Arc::clone(self), self.stop.clone());
        self.tasks.spawn(async move {
            let all = async {
                for report in reports {
                    sleep(bounces.delay).await;
                    bounces.post(&pipe, &taken, *report).await;
                }
            };
            stop.run_until_cancelled(all).await;
        });
    }

    /// Hands a report over until it is taken, for so many tries.
    async fn post(&self, pipe: &Pipe, taken: &Taken, report: MailReport) {
        let mail = taken.report(report);
        for attempt in 1..=TRIES {
            let request = self
                .http
                .post(self.rules.destination(&pipe.url))
                .bearer_auth(&pipe.secret)
                .header(header::CONTENT_TYPE, "message/rfc822")
                .body(mail.clone());
            let result = request.send().await.map(|answer| answer.status().as_u16());
            let (http_status, error) = match result {
                Ok(http_status) => (Some(http_status), None),
                Err(error) => (None, Some(error.without_url().to_string())),
            };
            self.journal.append(Entry::ReportSent {
                to: taken.mail_from.clone(),
                action: report.action.to_owned(),
                status: report.status.to_owned(),
                attempt,
                http_status,
                error,
            });
            if http_status.is_some_and(|http_status| (200..300).contains(&http_status)) {
                return;
            }
            sleep(self.delay * 2_u32.pow(attempt)).await;
        }
    }
}

impl Taken {
    /// The report as a mail host writes it: for people, for machines, and the headers of the mail that it is about.
    fn report(&self, MailReport { action, status, diagnostic }: MailReport) -> String {
        let Self { mail_from, recipient, envelope_id, content } = self;
        let content = String::from_utf8_lossy(content);
        let head = content.split("\r\n\r\n").next().unwrap_or_default();
        let boundary = Uuid::new_v4().simple();
        let envelope_id = envelope_id.as_ref().map(|id| format!("Original-Envelope-Id: {id}\r\n")).unwrap_or_default();
        let text = format!(
            "Return-Path: <>
Delivered-To: {mail_from}
From: Mail Delivery System <MAILER-DAEMON@localhost>
To: {mail_from}
Subject: Delivery Status Notification
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=\"{boundary}\"

--{boundary}
Content-Type: text/plain; charset=us-ascii

About your message to {recipient}: {diagnostic}

--{boundary}
Content-Type: message/delivery-status

Reporting-MTA: dns; localhost
{envelope_id}
Final-Recipient: rfc822; {recipient}
Original-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Remote-MTA: dns; mx.example.test
Diagnostic-Code: smtp; {diagnostic}

--{boundary}
Content-Type: text/rfc822-headers

"
        );
        format!("{}{head}\r\n\r\n--{boundary}--\r\n", text.replace("\r\n", "\n").replace('\n', "\r\n"))
    }
}
