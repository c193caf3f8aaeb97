//! Magic recipients: who is written to decides what goes wrong. One table holds every behaviour; it is what the control
//! endpoint lists and what [`Rules`](super::Rules) picks from. Guarantee: constant data, no state.

use serde::Serialize;

/// What Twilio answers to a create, and SendGrid to a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Takes it: 201, or SendGrid's 202.
    Created,
    /// Takes it, 500.
    Failed,
    /// Takes it, then cuts the connection without a byte of reply.
    Dropped,
    /// Takes nothing, 500.
    FailedUntaken,
    /// Takes nothing. SendGrid has no codes.
    Refused { http_status: u16, code: u32 },
    /// Takes nothing, answers 429 and wants to be left alone for a second the first time; takes it from then on.
    LimitedOnce,
    /// The same, whichever time it is.
    Limited,
    /// Takes it, and answers after so many milliseconds.
    Stalled(u64),
}

/// How the life of a message ends at the carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Delivered,
    /// `undelivered` with this error code.
    Undelivered(u32),
    /// `sent` is the last word.
    Sent,
}

/// How status callbacks, or batches of events, tell of that life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reports {
    /// One for each step, in order, each after the one before was answered.
    InOrder,
    /// All after the last step, latest first.
    Reversed,
    /// In order, each this many times.
    Repeated(u32),
    /// In order, and all before the create is answered.
    BeforeAnswer,
    /// None: only the list and the message itself show the life.
    Never,
    /// All of them in an order drawn by `lot`, each up to `repeats` times, as fast as they are answered.
    Shuffled { repeats: u32, lot: u64 },
}

/// What happens to a text message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SmsPlan {
    pub answer: Answer,
    pub end: End,
    pub reports: Reports,
    /// How long it is missing from lists.
    pub list_lag_ms: u64,
    /// What the recipient texts back once it has arrived.
    pub replies: &'static [&'static str],
    /// The files that go along with each, by their names in the table of files.
    pub sends: &'static [&'static str],
}

/// What happens to a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MailPlan {
    Accepted,
    UnknownMailbox,
    GreylistedOnce,
    Full,
    Spam,
    DroppedAfterDotOnce,
    DroppedBeforeDotOnce,
    Slow,
    /// Taken, and then reported about.
    Reported(&'static [MailReport]),
}

/// A report about a mail that was taken (RFC 3464).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MailReport {
    /// `failed`, `delayed` or `delivered`.
    pub action: &'static str,
    /// The enhanced status code.
    pub status: &'static str,
    /// What the mail host said over SMTP.
    pub diagnostic: &'static str,
}

/// An event of a mail at SendGrid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MailEvent {
    /// SendGrid's word.
    pub event: &'static str,
    /// Further fields and their values.
    pub fields: &'static [(&'static str, &'static str)],
}

/// What happens to a mail that is handed to SendGrid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SendGridPlan {
    pub answer: Answer,
    /// Its life, in order.
    pub events: &'static [MailEvent],
    /// How the event webhook tells of it.
    pub reports: Reports,
}

/// What Firebase Cloud Messaging does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PushPlan {
    Taken,
    /// Takes nothing: the app is gone.
    Gone,
    /// Takes nothing: it is no token.
    BadToken,
    /// Takes nothing: a field is wrong.
    BadRequest,
    /// Takes nothing: the token is another project's.
    Mismatched,
    /// Takes nothing the first time; takes it from then on.
    LimitedOnce,
    /// Takes nothing, 503.
    Unavailable,
    /// Takes it, 500.
    Failed,
    /// Takes it, and answers after so many milliseconds.
    Stalled(u64),
    /// Takes it, then cuts the connection without a byte of reply.
    CutOff,
    /// Takes nothing, 502 and a page of HTML.
    Garbled,
    /// Takes nothing: Apple refuses the project.
    AppleRefused,
    /// Takes nothing, whatever the access token.
    Unauthorised,
}

/// A behaviour, by the channel or provider that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    Sms(SmsPlan),
    Mail(MailPlan),
    #[serde(rename = "sendgrid")]
    SendGrid(SendGridPlan),
    Push(PushPlan),
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MagicRecipient {
    /// The last four digits of a phone number, the local part of a mail address up to a `+`, or a device's token up to a `:`; `*`
    /// is everyone else.
    pub recipient: &'static str,
    /// The name by which a rule asks for this behaviour; unique.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    pub behaviour: Behaviour,
}

/// Every behaviour of the stand-ins.
pub const MAGIC: &[MagicRecipient] = &[
    sms("*", "delivered", "Sent, then delivered.", DELIVERED),
    sms("0110", "unreachable", "Undelivered, 30003: the handset is off.", undelivered(30003)),
    sms("0111", "unknown_handset", "Undelivered, 30005: no such handset.", undelivered(30005)),
    sms("0112", "invalid_number", "Refused, 400 with 21211: not a valid number.", answer(refused(400, 21211))),
    sms("0113", "opted_out", "Refused, 400 with 21610: the recipient replied STOP.", answer(refused(400, 21610))),
    sms(
        "0114",
        "limited_once",
        "The first create gets 429 with 20429, the next go through.",
        answer(Answer::LimitedOnce),
    ),
    sms("0115", "unauthorised", "Refused, 401 with 20003: bad credentials.", answer(refused(401, 20003))),
    sms("0116", "dropped", "Taken, the connection is cut without a reply, callbacks come.", answer(Answer::Dropped)),
    sms(
        "0117",
        "failed_after_accept",
        "Taken, 500 with 20500, no callbacks: only the list shows it.",
        SmsPlan { reports: Reports::Never, ..answer(Answer::Failed) },
    ),
    sms("0118", "failed_before_accept", "500 with 20500, nothing taken.", answer(Answer::FailedUntaken)),
    sms("0119", "reordered", "Delivered is called back before sent.", reports(Reports::Reversed)),
    sms("0120", "repeated", "Each callback comes 5 times.", reports(Reports::Repeated(5))),
    sms("0121", "early_callbacks", "All callbacks come before the create is answered.", reports(Reports::BeforeAnswer)),
    sms("0122", "no_callbacks", "Delivered, but no callback comes: only a look-up shows it.", reports(Reports::Never)),
    sms("0124", "sent_only", "Sent, never delivered.", SmsPlan { end: End::Sent, ..DELIVERED }),
    sms(
        "0125",
        "dropped_silently",
        "Taken, the connection is cut without a reply, no callbacks.",
        SmsPlan { reports: Reports::Never, ..answer(Answer::Dropped) },
    ),
    sms("0126", "says_stop", "Delivered, then the recipient texts STOP.", replies(&["STOP"])),
    sms("0127", "says_help", "Delivered, then the recipient texts HELP.", replies(&["HELP"])),
    sms(
        "0128",
        "changes_mind",
        "Delivered, then the recipient texts STOP, and then START.",
        replies(&["STOP", "START"]),
    ),
    sms(
        "0129",
        "asks_to_stop",
        "Delivered, then the recipient asks to stop in words of their own.",
        replies(&["Please stop texting me"]),
    ),
    sms(
        "0130",
        "sends_picture",
        "Delivered, then the recipient texts a picture.",
        SmsPlan { sends: &["picture"], ..replies(&["Here it is."]) },
    ),
    mail("*", "accepted", "250 2.0.0.", MailPlan::Accepted),
    mail("nouser", "unknown_mailbox", "550 5.1.1 to RCPT.", MailPlan::UnknownMailbox),
    mail("greylist", "greylisted_once", "450 4.7.1 to the first RCPT, then taken.", MailPlan::GreylistedOnce),
    mail("full", "full", "452 4.2.2 to DATA.", MailPlan::Full),
    mail("spam", "spam", "554 5.7.1 to the final dot.", MailPlan::Spam),
    mail(
        "drop-after-dot",
        "dropped_after_dot_once",
        "Stored, then hangs up without a reply; the same Message-ID gets 250 the next time.",
        MailPlan::DroppedAfterDotOnce,
    ),
    mail(
        "drop-before-dot",
        "dropped_before_dot_once",
        "Hangs up amid the first mail's data, then takes the next.",
        MailPlan::DroppedBeforeDotOnce,
    ),
    mail("slow", "slow", "Stored at once, 250 after a while.", MailPlan::Slow),
    mail("bounces", "bounced", "Stored, then comes back: 5.1.1.", MailPlan::Reported(NO_MAILBOX)),
    mail("bounces-full", "bounced_full", "Stored, then comes back: 5.2.2.", MailPlan::Reported(OVER_QUOTA)),
    mail("bounces-spam", "bounced_spam", "Stored, then comes back: 5.7.1.", MailPlan::Reported(AS_SPAM)),
    mail("delayed", "delayed", "Stored, then a report that it waits: 4.4.1.", MailPlan::Reported(&[WAITS])),
    mail("given-up", "given_up", "Stored, waits, then comes back: 4.4.7.", MailPlan::Reported(GIVEN_UP)),
    sendgrid("*", "sendgrid_delivered", "SendGrid: 202, processed, delivered.", ARRIVED),
    sendgrid("nouser", "sendgrid_bounced", "SendGrid: a bounce with 5.1.1.", BOUNCED),
    sendgrid("full", "sendgrid_full", "SendGrid: deferred, then a bounce with 5.2.2.", events(FULL)),
    sendgrid("spam", "sendgrid_blocked", "SendGrid: a bounce that is a block, 5.7.1.", events(BLOCKED)),
    sendgrid("greylist", "sendgrid_deferred", "SendGrid: deferred, then delivered.", events(GREYLISTED)),
    sendgrid("suppressed", "sendgrid_dropped", "SendGrid: dropped, it bounced before.", events(SUPPRESSED)),
    sendgrid("unsubscribed", "sendgrid_opted_out", "SendGrid: dropped, unsubscribed before.", events(OPTED_OUT)),
    sendgrid("complains", "sendgrid_complained", "SendGrid: delivered, then called spam.", events(COMPLAINED)),
    sendgrid("unsubscribes", "sendgrid_unsubscribed", "SendGrid: delivered, then unsubscribed.", events(UNSUBSCRIBED)),
    sendgrid("refused", "sendgrid_refused", "SendGrid: 400, not a valid address.", at_sendgrid(refused(400, 0))),
    sendgrid("unauthorised", "sendgrid_unauthorised", "SendGrid: 401.", at_sendgrid(refused(401, 0))),
    sendgrid("limited", "sendgrid_limited_once", "SendGrid: 429 the first time.", at_sendgrid(Answer::LimitedOnce)),
    sendgrid("failed", "sendgrid_failed", "SendGrid: 500, nothing taken.", at_sendgrid(Answer::FailedUntaken)),
    sendgrid(
        "drop-after-dot",
        "sendgrid_cut_off",
        "SendGrid: taken, the connection is cut without a reply, events come.",
        at_sendgrid(Answer::Dropped),
    ),
    sendgrid(
        "drop-silently",
        "sendgrid_cut_off_silently",
        "SendGrid: taken, the connection is cut without a reply, no events.",
        SendGridPlan { reports: Reports::Never, ..at_sendgrid(Answer::Dropped) },
    ),
    sendgrid("reordered", "sendgrid_reordered", "SendGrid: one batch, latest first.", told(Reports::Reversed)),
    sendgrid("repeated", "sendgrid_repeated", "SendGrid: each event comes 5 times.", told(Reports::Repeated(5))),
    sendgrid("early", "sendgrid_early", "SendGrid: all events come before the 202.", told(Reports::BeforeAnswer)),
    sendgrid("quiet", "sendgrid_quiet", "SendGrid: delivered, but no event comes.", told(Reports::Never)),
    push("*", "push_accepted", "FCM: 200.", PushPlan::Taken),
    push("gone", "push_gone", "FCM: 404 UNREGISTERED: the app is gone.", PushPlan::Gone),
    push("badtoken", "push_bad_token", "FCM: 400 INVALID_ARGUMENT: no token.", PushPlan::BadToken),
    push("badrequest", "push_bad_request", "FCM: 400 INVALID_ARGUMENT: a field is wrong.", PushPlan::BadRequest),
    push("mismatch", "push_mismatched", "FCM: 403 SENDER_ID_MISMATCH: another project's.", PushPlan::Mismatched),
    push("quota", "push_limited_once", "FCM: 429 QUOTA_EXCEEDED the first time.", PushPlan::LimitedOnce),
    push("unavailable", "push_unavailable", "FCM: 503, nothing taken.", PushPlan::Unavailable),
    push("internal", "push_failed", "FCM: taken, 500.", PushPlan::Failed),
    push("stall", "push_stalled", "FCM: taken, and answered after a minute.", PushPlan::Stalled(60_000)),
    push("drop", "push_cut_off", "FCM: taken, the connection is cut without a reply.", PushPlan::CutOff),
    push("html", "push_garbled", "FCM: 502 and a page of HTML, nothing taken.", PushPlan::Garbled),
    push("apns", "push_apple_refused", "FCM: 401 THIRD_PARTY_AUTH_ERROR.", PushPlan::AppleRefused),
    push("unauthorised", "push_unauthorised", "FCM: 401, whatever the access token.", PushPlan::Unauthorised),
];

const fn report(action: &'static str, status: &'static str, diagnostic: &'static str) -> MailReport {
    MailReport { action, status, diagnostic }
}

const NO_MAILBOX: &[MailReport] = &[report("failed", "5.1.1", "550 5.1.1 No such mailbox")];
const OVER_QUOTA: &[MailReport] = &[report("failed", "5.2.2", "552 5.2.2 The mailbox is full")];
const AS_SPAM: &[MailReport] = &[report("failed", "5.7.1", "550 5.7.1 Message refused as spam")];
const WAITS: MailReport = report("delayed", "4.4.1", "450 4.4.1 No answer from the host");
const GIVEN_UP: &[MailReport] = &[WAITS, report("failed", "4.4.7", "451 4.4.7 Delivery time expired")];

const fn event(event: &'static str, fields: &'static [(&'static str, &'static str)]) -> MailEvent {
    MailEvent { event, fields }
}

const PROCESSED: MailEvent = event("processed", &[]);
const ARRIVES: MailEvent = event("delivered", &[("response", "250 2.0.0 OK")]);
const FULL: &[MailEvent] = &[
    PROCESSED,
    event("deferred", &[("response", "452 4.2.2 The mailbox is full"), ("attempt", "1")]),
    event("bounce", &[("type", "bounce"), ("status", "5.2.2"), ("reason", "552 5.2.2 The mailbox is full")]),
];
const BLOCKED: &[MailEvent] = &[
    PROCESSED,
    event("bounce", &[("type", "blocked"), ("status", "5.7.1"), ("reason", "550 5.7.1 Message refused as spam")]),
];
const GREYLISTED: &[MailEvent] =
    &[PROCESSED, event("deferred", &[("response", "451 4.7.1 Try again later"), ("attempt", "1")]), ARRIVES];
const SUPPRESSED: &[MailEvent] = &[event("dropped", &[("reason", "Bounced Address"), ("status", "5.0.0")])];
const OPTED_OUT: &[MailEvent] = &[event("dropped", &[("reason", "Unsubscribed Address"), ("status", "5.0.0")])];
const COMPLAINED: &[MailEvent] = &[PROCESSED, ARRIVES, event("spamreport", &[])];
const UNSUBSCRIBED: &[MailEvent] =
    &[PROCESSED, ARRIVES, event("open", &[("ip", "198.51.100.7")]), event("unsubscribe", &[])];

pub(super) const ARRIVED: SendGridPlan =
    SendGridPlan { answer: Answer::Created, events: &[PROCESSED, ARRIVES], reports: Reports::InOrder };
pub(super) const BOUNCED: SendGridPlan = events(&[
    PROCESSED,
    event("bounce", &[("type", "bounce"), ("status", "5.1.1"), ("reason", "550 5.1.1 No such mailbox")]),
]);

const fn events(events: &'static [MailEvent]) -> SendGridPlan {
    SendGridPlan { events, ..ARRIVED }
}

const fn at_sendgrid(answer: Answer) -> SendGridPlan {
    SendGridPlan { answer, ..ARRIVED }
}

const fn told(reports: Reports) -> SendGridPlan {
    SendGridPlan { reports, ..ARRIVED }
}

const fn sendgrid(
    recipient: &'static str,
    name: &'static str,
    description: &'static str,
    plan: SendGridPlan,
) -> MagicRecipient {
    MagicRecipient { recipient, name, description, behaviour: Behaviour::SendGrid(plan) }
}

pub(super) const DELIVERED: SmsPlan = SmsPlan {
    answer: Answer::Created,
    end: End::Delivered,
    reports: Reports::InOrder,
    list_lag_ms: 0,
    replies: &[],
    sends: &[],
};

const fn undelivered(code: u32) -> SmsPlan {
    SmsPlan { end: End::Undelivered(code), ..DELIVERED }
}

const fn answer(answer: Answer) -> SmsPlan {
    SmsPlan { answer, ..DELIVERED }
}

const fn refused(http_status: u16, code: u32) -> Answer {
    Answer::Refused { http_status, code }
}

const fn replies(replies: &'static [&'static str]) -> SmsPlan {
    SmsPlan { replies, ..DELIVERED }
}

const fn reports(reports: Reports) -> SmsPlan {
    SmsPlan { reports, ..DELIVERED }
}

const fn sms(recipient: &'static str, name: &'static str, description: &'static str, plan: SmsPlan) -> MagicRecipient {
    MagicRecipient { recipient, name, description, behaviour: Behaviour::Sms(plan) }
}

const fn mail(
    recipient: &'static str,
    name: &'static str,
    description: &'static str,
    plan: MailPlan,
) -> MagicRecipient {
    MagicRecipient { recipient, name, description, behaviour: Behaviour::Mail(plan) }
}

const fn push(
    recipient: &'static str,
    name: &'static str,
    description: &'static str,
    plan: PushPlan,
) -> MagicRecipient {
    MagicRecipient { recipient, name, description, behaviour: Behaviour::Push(plan) }
}

/// The behaviour with this name.
pub(super) fn by_name(name: &str) -> Option<Behaviour> {
    MAGIC.iter().find(|row| row.name == name).map(|row| row.behaviour)
}

/// What the number itself asks for.
pub(super) fn sms_plan(to: &str) -> SmsPlan {
    let mut plans = MAGIC.iter().filter_map(|row| match row.behaviour {
        Behaviour::Sms(plan) => Some((row.recipient, plan)),
        Behaviour::Mail(_) | Behaviour::SendGrid(_) | Behaviour::Push(_) => None,
    });
    plans.find(|(digits, _)| to.ends_with(digits)).map_or(DELIVERED, |(_, plan)| plan)
}

/// What the address itself asks for.
pub(super) fn mail_plan(address: &str) -> MailPlan {
    let local_part = address.split(['@', '+']).next().unwrap_or_default();
    let mut plans = MAGIC.iter().filter_map(|row| match row.behaviour {
        Behaviour::Mail(plan) => Some((row.recipient, plan)),
        Behaviour::Sms(_) | Behaviour::SendGrid(_) | Behaviour::Push(_) => None,
    });
    plans.find(|(name, _)| local_part == *name).map_or(MailPlan::Accepted, |(_, plan)| plan)
}

/// What the address itself asks for, where SendGrid carries the mail.
pub(super) fn sendgrid_plan(address: &str) -> SendGridPlan {
    let local_part = address.split(['@', '+']).next().unwrap_or_default();
    let mut plans = MAGIC.iter().filter_map(|row| match row.behaviour {
        Behaviour::SendGrid(plan) => Some((row.recipient, plan)),
        Behaviour::Sms(_) | Behaviour::Mail(_) | Behaviour::Push(_) => None,
    });
    plans.find(|(name, _)| local_part == *name).map_or(ARRIVED, |(_, plan)| plan)
}

/// What a device's token itself asks for.
pub(super) fn push_plan(token: &str) -> PushPlan {
    let word = token.split(':').next().unwrap_or_default();
    let mut plans = MAGIC.iter().filter_map(|row| match row.behaviour {
        Behaviour::Push(plan) => Some((row.recipient, plan)),
        Behaviour::Sms(_) | Behaviour::Mail(_) | Behaviour::SendGrid(_) => None,
    });
    plans.find(|(name, _)| word == *name).map_or(PushPlan::Taken, |(_, plan)| plan)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_behaviour_has_a_name_of_its_own() {
        let names: HashSet<_> = MAGIC.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), MAGIC.len());
    }

    #[test]
    fn the_recipient_chooses_the_plan() {
        assert_eq!(sms_plan("+12025550110"), undelivered(30003));
        assert_eq!(sms_plan("+12025550142"), DELIVERED);
        assert_eq!(mail_plan("spam@example.test"), MailPlan::Spam);
        assert_eq!(mail_plan("spam+2@example.test"), MailPlan::Spam);
        assert_eq!(mail_plan("ana@spam.example.test"), MailPlan::Accepted);
        assert_eq!(sendgrid_plan("nouser+1@example.test"), BOUNCED);
        assert_eq!(sendgrid_plan("ana@nouser.example.test"), ARRIVED);
    }
}
