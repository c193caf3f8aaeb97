//! Claims: who takes what, and whether it may be taken.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use heedwell::{
    domain::{Channel, Class, Delivery, DeliveryId, FailureReason, GIVE_UP_AFTER, Source},
    store::{CLASSES, Claimed, Destination, Failing, Handover, Leave, Turn, place},
};
use uuid::Uuid;

use super::{
    plan::{Gate, Hold, PATIENTS, PHONES, Plan},
    work::Call,
    world::{World, patient_of},
};

/// What one replica took, and whom it asked about.
pub(super) struct Haul {
    replica: usize,
    claimed: Vec<Claimed>,
    /// With whether it had been parked, and until when it is now.
    asked: Vec<(DeliveryId, bool, Option<DateTime<Utc>>)>,
    marks: [Option<DateTime<Utc>>; CLASSES],
}

impl Hold {
    /// Whether a delivery leaves, and until when it is parked.
    fn leave(self, now: DateTime<Utc>) -> (Leave, Option<DateTime<Utc>>) {
        let (seconds, failing) = match self {
            Self::Nobody => return (Leave::Now, None),
            Self::Pace(seconds) => (seconds, None),
            Self::Failing(seconds) => {
                (seconds, Some(Failing { reason: FailureReason::ProviderConfig, code: "20003".into() }))
            }
        };
        let at = now + TimeDelta::seconds(seconds.into());
        (Leave::Later { at, failing }, Some(at))
    }
}

impl World {
    pub(super) async fn claim(&mut self, plan: &Plan, replica: usize, limit: u64, hold: Hold, marked: bool) {
        let haul = self.haul(replica, limit, hold, marked).await;
        let now = self.deliveries().await;
        for (id, ..) in haul.asked.iter().filter(|(.., until)| until.is_some()) {
            let over = self.t.now() >= now[id].create_time + GIVE_UP_AFTER;
            assert!(over || now[id] == self.known[id], "being put aside shows: {:?}", now[id]);
        }
        self.begin(&[plan], haul).await;
    }

    pub(super) async fn claim_together(&mut self, plan: &Plan, limit: u64) {
        let claims = (0..self.replicas.len()).map(|replica| self.haul(replica, limit, Hold::Nobody, false));
        for haul in join_all(claims).await {
            self.begin(&[plan], haul).await;
        }
    }

    /// What one replica claims, class by class.
    pub(super) async fn haul(&self, replica: usize, limit: u64, hold: Hold, marked: bool) -> Haul {
        let mut haul = Haul { replica, claimed: Vec::new(), asked: Vec::new(), marks: self.marks[replica] };
        for class in [Class::Urgent, Class::Normal] {
            let mark = self.marks[replica][place(class)].filter(|_| marked);
            let worker = Uuid::from_u128(replica as u128 + 1);
            let turn = Turn { worker, practice: self.scope.practice().clone(), class, limit, mark };
            let asked = Arc::new(Mutex::new(Vec::new()));
            let ask = Arc::clone(&asked);
            let leave = move |it: &Handover<'_>| {
                let (leave, until) = hold.leave(it.now);
                ask.lock().unwrap().push((it.id, it.parked, until));
                leave
            };
            let taken = self.replicas[replica].claim(&self.t.engine, turn, leave).await.unwrap();
            haul.claimed.extend(taken.claimed);
            haul.asked.append(&mut asked.lock().unwrap());
            haul.marks[place(class)] = Some(taken.mark);
        }
        haul
    }

    /// Notes intents, each of which must be one that may be, going by any of `plans`.
    pub(super) async fn begin(&mut self, plans: &[&Plan], haul: Haul) {
        for (id, parked, until) in haul.asked {
            let before = self.parked.remove(&id);
            assert_eq!(parked, before.is_some(), "whether it was put aside is told wrongly: {id}");
            assert!(before.is_none_or(|until| until <= self.t.now()), "asked about before its time: {id}");
            // It comes back when retries end, if not before.
            let end = self.known.get(&id).map(|delivery| delivery.create_time + GIVE_UP_AFTER);
            self.parked.extend(until.map(|until| (id, end.map_or(until, |end| end.min(until)))));
        }
        self.marks[haul.replica] = haul.marks;
        let now = self.deliveries().await;
        for claimed in haul.claimed {
            self.may_begin(plans, &now[&claimed.id], &claimed);
            self.calls.push(Call::new(claimed, haul.replica));
        }
    }

    fn may_begin(&self, plans: &[&Plan], delivery: &Delivery, claimed: &Claimed) {
        assert!(!self.stopped.contains(&claimed.id), "an intent after it was stopped: {delivery:?}");
        assert!(self.t.now() < claimed.expires_at, "an intent when it is too late: {delivery:?}");
        let gate = address_of(claimed);
        let may = |plan: &&Plan| {
            let patient = patient_of(delivery);
            let theirs = gate == Gate::Phone(plan.people[patient].phone) || gate == Gate::Mailbox(patient);
            theirs && plan.lets(patient, claimed.channel)
        };
        assert!(plans.iter().any(may), "an intent for somebody who is not to be written to there: {delivery:?}");
        assert!(plans.len() > 1 || !self.dead.contains(&gate), "an intent for an address that is dead: {delivery:?}");
        let Source::Notification(source) = delivery.source else { panic!("{delivery:?}") };
        let order = self.made.iter().position(|made| *made == source).unwrap();
        assert_eq!(*claimed.content.text.expose(), text_of(order), "the text of another message: {delivery:?}");
        for call in self.calls.iter().filter(|call| call.claimed.id == claimed.id) {
            assert!(call.is_over(self.t.now()), "somebody else has it: {delivery:?}");
            if call.taken {
                assert_eq!(claimed.channel, Channel::Email, "a text message is sent twice: {delivery:?}");
                assert!(delivery.possible_duplicate, "mail is sent twice without a flag: {delivery:?}");
            }
        }
    }
}

/// What an order says.
pub(super) fn text_of(order: usize) -> String {
    format!("This is order {order}.")
}

/// Where a message goes.
pub(super) fn address_of(claimed: &Claimed) -> Gate {
    match &claimed.destination {
        Destination::Phone(phone) => Gate::Phone(PHONES.iter().position(|known| *known == phone.e164()).unwrap()),
        Destination::Mailbox(mailbox, _) => {
            let name = mailbox.as_str().split('@').next();
            Gate::Mailbox(PATIENTS.iter().position(|known| Some(*known) == name).unwrap())
        }
        Destination::Devices(_) => panic!("nobody here has a device"),
    }
}
