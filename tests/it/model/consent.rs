//! Who may be written to, and where: directory and opt-outs, which may change while others claim.

use futures::future::join;
use heedwell::domain::{Channel, Patient};
use sea_orm::{ConnectionTrait, Statement};

use super::{
    claims::Haul,
    plan::{Gate, Hold, PATIENTS, PHONES, Plan, Subject},
    world::World,
};
use crate::{
    store::given::{patient, phone},
    support::Backend,
};

impl World {
    pub(super) async fn patient(&mut self, plan: &Plan, which: usize, claiming: bool) {
        let person = plan.people[which];
        let changed = Patient {
            inactive: person.inactive,
            mobile_phone: Some(phone(PHONES[person.phone])),
            ..patient(PATIENTS[which])
        };
        let change = async { self.replicas[0].patients_put(&self.scope, vec![changed]).await.unwrap() };
        let claims = async { if claiming { self.claim_meanwhile().await } else { Vec::new() } };
        let (_, hauls) = join(change, claims).await;
        if person.phone != self.before.people[which].phone {
            // A number that is entered anew is tried again.
            self.dead.remove(&Gate::Phone(person.phone));
            self.maybe_dead.remove(&Gate::Phone(person.phone));
        }
        // Those were claimed before or after the change.
        let before = self.before.clone();
        for haul in hauls {
            self.begin(&[plan, &before], haul).await;
        }
    }

    /// An opt-out, or its end. Stands for whatever writes consent: it holds the gate and the head of the feed as that does
    /// until it commits, so that a claim which began meanwhile can only commit after it.
    pub(super) async fn consent(&mut self, plan: &Plan, about: (Subject, Channel), out: bool, claiming: bool) {
        let gate = plan.gate(about.0, about.1);
        let (channel, kind, subject) = match gate {
            Gate::Patient(channel, patient) => (channel, 1_i16, PATIENTS[patient].as_bytes().to_vec()),
            Gate::Phone(_) => (Channel::Sms, 2, self.index("phone_bi", about.0).await),
            Gate::Mailbox(_) => (Channel::Email, 2, self.index("email_bi", about.0).await),
        };
        self.t.execute(if self.t.home.backend == Backend::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" }).await;
        let write = "INSERT INTO recipient_gate (practice_id, channel, subject_kind, subject, consent, consent_seq) \
             VALUES ('north', $1, $2, $3, $4, 0) \
             ON CONFLICT (practice_id, channel, subject_kind, subject) DO UPDATE SET consent = excluded.consent";
        let consent = if out { 2_i16 } else { 1 };
        let values = [channel.number().into(), kind.into(), subject.into(), consent.into()];
        let write = Statement::from_sql_and_values(self.t.raw.get_database_backend(), write, values);
        self.t.raw.execute_raw(write).await.unwrap();
        self.t.execute("UPDATE feed_head SET seq = seq WHERE practice_id = 'north'").await;
        let hauls = {
            let claims = async { if claiming { self.claim_meanwhile().await } else { Vec::new() } };
            let mut claims = std::pin::pin!(claims);
            let done = tokio::select! {
                hauls = &mut claims => Some(hauls),
                () = self.t.somebody_waits() => None,
            };
            self.t.execute("COMMIT").await;
            match done {
                Some(hauls) => hauls,
                None => claims.await,
            }
        };
        for haul in hauls {
            self.begin(&[plan], haul).await;
        }
    }

    /// The blind index of an address, which only the store can make.
    async fn index(&self, column: &str, subject: Subject) -> Vec<u8> {
        let (Subject::AddressOf(patient) | Subject::Patient(patient)) = subject;
        let query = format!("SELECT {column} FROM patient WHERE patient_id = '{}'", PATIENTS[patient]);
        self.t.rows(&query).await[0].try_get_by_index(0).unwrap()
    }

    /// What two replicas claim while something else goes on.
    pub(super) async fn claim_meanwhile(&self) -> Vec<Haul> {
        let (one, other) = join(self.haul(1, 3, Hold::Nobody, false), self.haul(2, 3, Hold::Nobody, false)).await;
        vec![one, other]
    }
}
