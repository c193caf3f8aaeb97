//! What is answered to a text while the practice is closed: once for each closing, and only where staff could answer too.

use chrono::NaiveTime;
use futures::future::join_all;
use heedwell::{
    domain::{
        ActorType, AfterHours, Channel, ConsentSource, ConsentState, ConversationFilter, ConversationMessage,
        DeliveryState, Direction, Meaning, MessageRoute, OpenSpan, OpeningHours, Phi, PracticeSettings, Scope,
        SkipReason,
    },
    store::{Destination, Heard, InboundText},
};

use super::{
    consent::{decision, proves, record, text},
    given::{NORTH, SOUTH, claim, claim_one, delivery, patient, phone, ready_practice, settings},
    *,
};

const NUMBER: &str = "+12025550142";
const STRANGER: &str = "+12025550147";
const CLOSED: &str = "We are closed. In an emergency call 911.";
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

fn time(hour: u32) -> NaiveTime {
    NaiveTime::from_hms_opt(hour, 0, 0).unwrap()
}

/// From Monday to Friday, from 9 to 17 o'clock.
fn office_hours() -> AfterHours {
    let spans = (1..=5).map(|weekday| OpenSpan::new(weekday, time(9), time(17)).unwrap());
    AfterHours { text: CLOSED.into(), hours: OpeningHours::new(spans).unwrap() }
}

/// A practice with a reply. It is Monday, 10 o'clock there.
async fn practice(t: &TestStore, after_hours: AfterHours) -> Scope {
    let scope = ready_practice(t, NORTH).await;
    let with = PracticeSettings { after_hours, ..settings() };
    t.store.settings_put(&scope, with, 1).await.unwrap();
    scope
}

/// The messages of the conversation that changed last, oldest first.
async fn messages(t: &TestStore, scope: &Scope) -> Vec<ConversationMessage> {
    let page = t.store.conversations_list(scope, &ConversationFilter::default(), None, 50).await.unwrap();
    let mut messages = t.store.messages_list(scope, page.conversations[0].id, None, 50).await.unwrap().messages;
    messages.reverse();
    messages
}

/// How many replies were made in all.
async fn replies(t: &TestStore) -> i64 {
    t.number("SELECT count(*) FROM conversation_message WHERE author_type = 4").await
}

/// As [`text`], from whoever that is.
fn from(sid: u32, number: Option<&str>, sender: &str) -> InboundText {
    InboundText {
        sid: format!("SM{sid:032}"),
        from: number.map(phone),
        from_text: Phi::new(sender.into()),
        to: "+12025550199".into(),
        reached_at: String::new(),
        body: Phi::new("hello".into()),
        media: Vec::new(),
        meaning: Meaning::Other,
    }
}

on_both! {
    async fn a_text_in_a_closing_is_answered_once(t: &TestStore) {
        let scope = practice(t, office_hours()).await;
        text(t, &scope, 1, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 0, "they are open");
        // It is two o'clock where they are, and seven in the evening in Greenwich.
        t.advance(4 * HOUR);
        text(t, &scope, 10, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 0, "they still are");
        t.advance(4 * HOUR);
        assert_eq!(text(t, &scope, 2, NUMBER, Meaning::Other).await, Heard::New { entries: 0 });
        assert_eq!(text(t, &scope, 2, NUMBER, Meaning::Other).await, Heard::Repeat);
        text(t, &scope, 3, NUMBER, Meaning::Other).await;
        let said = messages(t, &scope).await;
        let [_, _, asked, reply, _] = &said[..] else { panic!("{said:?}") };
        assert_eq!((asked.direction, asked.author.kind), (Direction::Inbound, ActorType::Patient));
        assert_eq!((reply.direction, reply.route), (Direction::Outbound, MessageRoute::Sms));
        assert_eq!((reply.author.kind, reply.body.expose().as_str()), (ActorType::System, CLOSED));
        let conversation = t.store.conversation_get(&scope, reply.conversation).await.unwrap();
        assert_eq!((conversation.staff_unread, conversation.patient_unread), (4, 0), "no person has answered");
        assert!(conversation.waiting_time.is_some());

        let claimed = claim_one(t, &scope).await;
        assert_eq!(Some(claimed.id), reply.delivery.as_ref().map(|delivery| delivery.id));
        assert!(matches!(&claimed.destination, Destination::Phone(to) if to.e164() == NUMBER));
        assert_eq!(claimed.content.text.expose(), &format!("north Primary Care: {CLOSED}"));
        let shown = delivery(t, &scope, claimed.id).await;
        assert_eq!((shown.patient.as_ref().map(|id| id.as_str()), shown.kind), (Some("maria"), None));

        // The next day, and its evening.
        t.advance(16 * HOUR);
        text(t, &scope, 4, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 1);
        t.advance(8 * HOUR);
        text(t, &scope, 5, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 2);
        // Over the weekend they are closed all day.
        t.advance(3 * DAY);
        text(t, &scope, 6, NUMBER, Meaning::Other).await;
        t.advance(DAY + 12 * HOUR);
        text(t, &scope, 7, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 3);
        // On Sunday the clocks went forward: on Monday at half past five they are closed, where they were open on Friday.
        t.advance(DAY + 21 * HOUR / 2);
        text(t, &scope, 8, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 4);
    }

    async fn each_conversation_has_a_reply_of_its_own(t: &TestStore) {
        let scope = practice(t, office_hours()).await;
        ready_practice(t, SOUTH).await;
        let otto = heedwell::domain::Patient { mobile_phone: Some(phone("+12025550143")), ..patient("otto") };
        t.store.patients_put(&scope, vec![patient("anna"), otto]).await.unwrap();
        t.advance(8 * HOUR);
        text(t, &t.scope(SOUTH), 1, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 0, "it has no reply");
        // Of two patients, of one, of nobody.
        for (sid, number) in [(2, NUMBER), (3, "+12025550143"), (4, STRANGER)] {
            for again in [0, 10] {
                text(t, &scope, sid + again, number, Meaning::Other).await;
            }
        }
        let mut sent: Vec<_> = claim(t, &scope, 10).await;
        sent.sort_by_key(|claimed| claimed.id);
        let to: Vec<_> = sent
            .iter()
            .map(|claimed| match &claimed.destination {
                Destination::Phone(to) => to.e164(),
                _ => "",
            })
            .collect();
        assert_eq!(to, [NUMBER, "+12025550143", STRANGER]);
        let mut of = Vec::new();
        for claimed in &sent {
            of.push(delivery(t, &scope, claimed.id).await.patient.map(|id| id.as_str().to_owned()));
        }
        assert_eq!(of, [None, Some("otto".to_owned()), None], "nobody is chosen among several");
    }

    async fn neither_keywords_nor_opt_outs_nor_robots_are_answered(t: &TestStore) {
        let scope = practice(t, office_hours()).await;
        t.advance(8 * HOUR);
        for (sid, meaning) in [Meaning::Help, Meaning::Start, Meaning::Stop, Meaning::StopRequest].into_iter().enumerate() {
            text(t, &scope, u32::try_from(sid).unwrap(), NUMBER, meaning).await;
        }
        text(t, &scope, 10, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 0, "the number is closed");
        // A stop request of somebody whose number nobody has.
        text(t, &scope, 11, STRANGER, Meaning::StopRequest).await;
        text(t, &scope, 12, STRANGER, Meaning::Other).await;
        assert_eq!(replies(t).await, 0);
        // A short code, a name, and a number beyond those that may be texted.
        for (sid, number, sender) in [(13, None, "72975"), (14, None, "BANK"), (15, Some("+442071838750"), "+442071838750")] {
            t.store.text_take(&scope, from(sid, number, sender)).await.unwrap();
        }
        assert_eq!(replies(t).await, 0);
        text(t, &scope, 16, NUMBER, Meaning::Start).await;
        record(t, &scope, decision("c1", Channel::Sms, ConsentState::OptedOut, ConsentSource::Portal)).await;
        text(t, &scope, 17, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 0, "the patient opted out");
        record(t, &scope, decision("c2", Channel::Sms, ConsentState::OptedIn, ConsentSource::Portal)).await;
        text(t, &scope, 18, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 1);
        proves(t).await;
    }

    async fn without_a_text_or_an_account_nothing_is_answered(t: &TestStore) {
        let scope = practice(t, AfterHours { text: String::new(), ..office_hours() }).await;
        t.advance(8 * HOUR);
        text(t, &scope, 1, NUMBER, Meaning::Other).await;
        let mute = PracticeSettings { after_hours: office_hours(), sms: Default::default(), ..settings() };
        t.store.settings_put(&scope, mute, 2).await.unwrap();
        text(t, &scope, 2, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 0);
        // Settings come back as they were stored.
        assert_eq!(t.store.settings_get(&scope).await.unwrap().value.after_hours, office_hours());
    }

    async fn a_reply_is_decided_on_once_more_and_does_not_outlive_its_hour(t: &TestStore) {
        let scope = practice(t, office_hours()).await;
        t.advance(8 * HOUR);
        text(t, &scope, 1, NUMBER, Meaning::Other).await;
        text(t, &scope, 2, NUMBER, Meaning::Stop).await;
        text(t, &scope, 3, STRANGER, Meaning::Other).await;
        t.advance(HOUR);
        assert!(claim(t, &scope, 10).await.is_empty());
        let rows = t.rows("SELECT state, skip_reason FROM delivery ORDER BY id").await;
        let ends: Vec<(i16, i16)> =
            rows.iter().map(|row| (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap())).collect();
        let skipped = |reason: SkipReason| (DeliveryState::Skipped.number(), reason.number());
        assert_eq!(ends, [skipped(SkipReason::OptedOut), skipped(SkipReason::Expired)]);
    }

    async fn two_robots_do_not_talk_all_day(t: &TestStore) {
        // Open for the first five minutes of every hour.
        let spans = (0..24).map(|hour| {
            OpenSpan::new(1, time(hour), NaiveTime::from_hms_opt(hour, 5, 0).unwrap()).unwrap()
        });
        let hours = OpeningHours::new(spans.chain([OpenSpan::new(2, time(0), time(1)).unwrap()])).unwrap();
        let scope = practice(t, AfterHours { text: CLOSED.into(), hours }).await;
        t.advance(HOUR / 2);
        for sid in 0..8 {
            text(t, &scope, sid, NUMBER, Meaning::Other).await;
            t.advance(HOUR);
        }
        assert_eq!(replies(t).await, 3);
        t.advance(DAY - 8 * HOUR);
        text(t, &scope, 9, NUMBER, Meaning::Other).await;
        assert_eq!(replies(t).await, 4);
    }

    async fn texts_that_come_together_have_one_reply_together(t: &TestStore) {
        let scope = practice(t, office_hours()).await;
        t.advance(8 * HOUR);
        for number in [NUMBER, STRANGER] {
            let texts = (0..12).map(|n| {
                // Each of six, twice.
                let sid = (n % 6) + if number == NUMBER { 0 } else { 10 };
                t.store.text_take(&scope, from(sid, Some(number), number))
            });
            let heard = join_all(texts).await;
            let anew = heard.iter().filter(|heard| matches!(heard, Ok(Heard::New { .. }))).count();
            assert_eq!(anew, 6, "{heard:?}");
        }
        assert_eq!(replies(t).await, 2);
    }
}
