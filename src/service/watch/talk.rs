//! What a page of the feed tells of conversations: messages that are new, deliveries of messages that moved on, and what else
//! changed. The feed says which; what is told is read when it is told.

use std::collections::BTreeSet;

use super::{ConversationChange, News, Subject, run::Run};
use crate::{
    domain::{
        Conversation, ConversationId, ConversationNews, DeliveryChange, DeliveryState, MessageDelivery, MessageId,
        Newness, PatientId, Side, Source,
    },
    service::Error,
    store::FeedPage,
};

/// Most messages in one step: with the longest texts that there are they stay below what an answer may have.
const MOST_MESSAGES: usize = 32;

/// One thing to tell.
struct Told {
    /// Unset: wherever the message is.
    conversation: Option<ConversationId>,
    /// It leads to another from now on.
    moved: bool,
    patient: Option<PatientId>,
    message: Option<MessageId>,
    /// Where the message's delivery stood then.
    delivery: Stood,
}

/// Where the delivery of a message stood when something was told.
enum Stood {
    /// At its beginning, if there was one: what became of it is told after this.
    AtFirst,
    /// Where it stands now: what became of it was told before.
    AsNow,
    At(MessageDelivery),
}

impl Run {
    /// Tells what a page says of conversations, if it says anything. Only with the last part has everything up to its position
    /// been told.
    pub(super) async fn tell_talk(&mut self, only: Option<ConversationId>, page: &FeedPage) -> Result<bool, Error> {
        let side = Side::of(self.scope.author());
        let mut only = only;
        let all = in_order(page, |news| {
            let told = only.is_none_or(|only| only == news.conversation);
            // Whoever watches one that is given away goes on with the one that it leads to.
            if let (true, Some(_), Some(next)) = (told, only, news.moved_to) {
                only = Some(next);
            }
            told
        });
        let all: Vec<Told> = all.into_iter().filter(|told| self.may_see(side, told)).collect();
        self.request.subject = Subject::Conversations(only);
        let mut parts = all.chunks(MOST_MESSAGES).peekable();
        let mut said = false;
        while let Some(part) = parts.next() {
            let changes = self.read(side, only, part).await?;
            if parts.peek().is_none() {
                self.position = page.position;
            }
            if !changes.is_empty() {
                said = true;
                self.send(News::Conversations(side, changes)).await?;
            }
        }
        self.position = page.position;
        Ok(said)
    }

    /// Whether it may be the reader's business. That of a number is for staff alone, and so is that it became a patient's. Where
    /// a message to a number is by now, which may have become a patient's since, is seen when it is read.
    fn may_see(&self, side: Side, told: &Told) -> bool {
        let own = match &told.patient {
            Some(patient) => self.scope.covers(patient) && !told.moved,
            None => told.conversation.is_none(),
        };
        side == Side::Staff || own
    }

    /// What is told, as it is now.
    async fn read(
        &self,
        side: Side,
        only: Option<ConversationId>,
        part: &[Told],
    ) -> Result<Vec<ConversationChange>, Error> {
        let store = &self.watch.store;
        let ids: BTreeSet<MessageId> = part.iter().filter_map(|told| told.message).collect();
        let messages = store.messages_of(&self.scope, &ids.into_iter().collect::<Vec<_>>()).await?;
        let home = |told: &Told| {
            let of_message = || messages.get(&told.message?).map(|message| message.conversation);
            told.conversation.or_else(of_message)
        };
        let homes: BTreeSet<ConversationId> = part.iter().filter_map(home).collect();
        let conversations = store.conversations_of(&self.scope, &homes.into_iter().collect::<Vec<_>>()).await?;
        let seen = |conversation: &&Conversation| {
            side == Side::Staff || conversation.patient.as_ref().is_some_and(|patient| self.scope.covers(patient))
        };
        let change = |told: &Told| {
            let home = home(told)?;
            if told.conversation.is_none() && only.is_some_and(|only| only != home) {
                return None;
            }
            let conversation = conversations.get(&home).filter(seen)?.clone();
            let mut message = told.message.and_then(|id| messages.get(&id)).cloned();
            if let Some(message) = &mut message {
                match (&told.delivery, &mut message.delivery) {
                    (Stood::AtFirst, Some(delivery)) => {
                        (delivery.state, delivery.failure) = (DeliveryState::Pending, None);
                    }
                    (Stood::At(delivery), shown) => *shown = Some(delivery.clone()),
                    (Stood::AtFirst | Stood::AsNow, _) => {}
                }
            }
            Some(ConversationChange { conversation, message })
        };
        Ok(part.iter().filter_map(change).collect())
    }
}

/// Everything of a page that concerns conversations, in the order in which it came to be.
fn in_order(page: &FeedPage, mut wanted: impl FnMut(&ConversationNews) -> bool) -> Vec<Told> {
    let mut talk = page.talk.iter().peekable();
    let mut all = Vec::new();
    for place in 0..=page.changes.len() {
        while let Some((_, news)) = talk.next_if(|(before, _)| *before <= place) {
            if wanted(news) {
                all.push(Told {
                    conversation: Some(news.conversation),
                    moved: news.moved_to.is_some(),
                    patient: news.patient.clone(),
                    message: news.message.map(|(id, _)| id),
                    delivery: match news.message {
                        Some((_, Newness::Said)) => Stood::AtFirst,
                        _ => Stood::AsNow,
                    },
                });
            }
        }
        all.extend(page.changes.get(place).and_then(moved_on));
    }
    all
}

/// A delivery of a message that stands elsewhere now, or that stands in for another since staff had it sent again. That a message
/// has a delivery at all is told with the message.
fn moved_on(change: &DeliveryChange) -> Option<Told> {
    let delivery = &change.delivery;
    let Source::ConversationMessage(message) = delivery.source else { return None };
    let news = match change.previous_state {
        Some(before) => before != delivery.state,
        None => delivery.retry_of.is_some(),
    };
    (news && delivery.retried_by.is_none()).then(|| Told {
        conversation: None,
        moved: false,
        patient: delivery.patient.clone(),
        message: Some(message),
        delivery: Stood::At(MessageDelivery {
            id: delivery.id,
            state: delivery.state,
            failure: delivery.failure.clone(),
        }),
    })
}
