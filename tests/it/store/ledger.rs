//! A ledger that somebody with the database, and without the key, has written in: each change is found, and named by its place.

use heedwell::{
    domain::{Channel, ConsentSource, ConsentState, DeliveryId, Meaning, Scope},
    store::{Anchor, Anchored, Finding, Flaw, NewConsent},
};

use super::{
    consent::{decision, proves, record, text},
    given::{NORTH, Order, SOUTH, accepted, claim_one, patient, phone, ready_practice, settle},
    links::linked,
    *,
};
use crate::support::Backend;

/// How many changes are tried of each ledger, each by itself: `HEEDWELL_TEST_TAMPERINGS`. Of both ledgers, on both databases, they are a
/// thousand.
fn tamperings() -> u32 {
    std::env::var("HEEDWELL_TEST_TAMPERINGS").ok().map_or(250, |count| count.parse().unwrap())
}

const LENGTH: i64 = 40;

/// Fills a ledger with decisions of all sorts.
async fn fill(t: &TestStore, scope: &Scope) {
    let people: Vec<_> = (0..6)
        .map(|n| heedwell::domain::Patient {
            mobile_phone: Some(phone(&format!("+1202555015{n}"))),
            ..patient(&format!("p{n}"))
        })
        .collect();
    t.store.patients_put(scope, people).await.unwrap();
    let mut entries = 0;
    for n in 0.. {
        t.advance(7);
        let who = n % 6;
        entries += match n % 4 {
            0 => {
                let number = format!("+1202555015{who}");
                let meaning = [Meaning::Stop, Meaning::Start, Meaning::StopRequest][n as usize / 4 % 3];
                match text(t, scope, n, &number, meaning).await {
                    heedwell::store::Heard::New { entries } => i64::try_from(entries).unwrap(),
                    heedwell::store::Heard::Repeat => 0,
                }
            }
            _ => {
                let state = if n % 3 == 0 { ConsentState::OptedIn } else { ConsentState::OptedOut };
                let channel = [Channel::InApp, Channel::Email, Channel::Push][n as usize % 3];
                let new = decision(&format!("c{n}"), channel, state, ConsentSource::Portal);
                record(t, scope, NewConsent { patient: format!("p{who}").parse().unwrap(), ..new }).await;
                1
            }
        };
        if entries >= LENGTH {
            break;
        }
    }
}

/// Numbers that look drawn, and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        i64::try_from(self.0 % bound.unsigned_abs()).unwrap()
    }
}

/// A change, and what must be said of it.
struct Tampering {
    statements: Vec<String>,
    named: Vec<Finding>,
}

const OF: &str = "practice_id = 'north'";

/// A ledger that can be tampered with.
struct Book {
    table: &'static str,
    head: &'static str,
    /// Changes of an entry, where `BYTES` stands before hexadecimal digits.
    edits: &'static [&'static str],
    /// What is copied of an entry: all columns but its position.
    columns: &'static str,
    /// Its id, of which there is one, in front of a comma; empty where it has none.
    id: &'static str,
    finding: fn(Flaw) -> Finding,
}

const CONSENT: Book = Book {
    table: "consent_ledger",
    head: "consent_head",
    edits: &[
        "patient_id = patient_id || 'x'",
        "channel = channel % 4 + 1",
        "state = 3 - state",
        "source = source % 8 + 1",
        "effective_at = '2020-01-01T00:00:00+00:00'",
        "at = '2020-01-01T00:00:00+00:00'",
        "body_ct = BYTES00'",
        "mac = BYTES0000000000000000000000000000000000000000000000000000000000000000'",
        "address_bi = BYTES0001'",
        "id = UUID",
    ],
    columns: "practice_id, patient_id, channel, address_bi, state, source, effective_at, at, body_ct, mac",
    id: "id, ",
    finding: Finding::Ledger,
};

const AUDIT: Book = Book {
    table: "audit",
    head: "audit_head",
    edits: &[
        "patient_id = patient_id || 'x'",
        "action = 'link.opened'",
        "at = '2020-01-01T00:00:00+00:00'",
        "body_ct = BYTES00'",
        "mac = BYTES0000000000000000000000000000000000000000000000000000000000000000'",
        "actor_bi = BYTES0001'",
        "actor_bi = NULL",
    ],
    columns: "practice_id, at, action, patient_id, actor_bi, body_ct, mac",
    id: "",
    finding: Finding::Trail,
};

/// An id that nothing has, as a literal.
fn uuid_of(t: &TestStore) -> &'static str {
    match t.home.backend {
        Backend::Sqlite => "x'00000000000000000000000000000001'",
        Backend::Postgres => "'00000000-0000-0000-0000-000000000001'::uuid",
    }
}

impl Book {
    fn edit(&self, t: &TestStore, dice: &mut Dice, last: i64) -> Tampering {
        let position = 1 + dice.below(last);
        let bytes = match t.home.backend {
            Backend::Sqlite => "x'",
            Backend::Postgres => "'\\x",
        };
        let which = usize::try_from(dice.below(i64::try_from(self.edits.len()).unwrap())).unwrap();
        let change = self.edits[which].replace("BYTES", bytes).replace("UUID", uuid_of(t));
        let statements = vec![format!("UPDATE {} SET {change} WHERE {OF} AND seq = {position}", self.table)];
        Tampering { statements, named: vec![(self.finding)(Flaw::Broken { position })] }
    }

    fn delete(&self, dice: &mut Dice, last: i64) -> Tampering {
        let position = 1 + dice.below(last);
        let statements = vec![format!("DELETE FROM {} WHERE {OF} AND seq = {position}", self.table)];
        let mut named = vec![(self.finding)(Flaw::Missing { position })];
        if position < last {
            named.push((self.finding)(Flaw::Unlinked { position: position + 1 }));
        }
        Tampering { statements, named }
    }

    fn swap(&self, dice: &mut Dice, last: i64) -> Tampering {
        let one = 1 + dice.below(last);
        let other = 1 + (one + dice.below(last - 1)) % last;
        let to = |from: i64, to: i64| format!("UPDATE {} SET seq = {to} WHERE {OF} AND seq = {from}", self.table);
        let (low, high) = (one.min(other), one.max(other));
        let statements = vec![to(low, -1), to(high, low), to(-1, high)];
        let moved = |position, from| (self.finding)(Flaw::Moved { position, from });
        Tampering { statements, named: vec![moved(low, high), moved(high, low)] }
    }

    /// An entry is taken out of its place and put at the end.
    fn shift(&self, dice: &mut Dice, last: i64) -> Tampering {
        let position = 1 + dice.below(last - 1);
        let end = last + 1;
        let statements = vec![format!("UPDATE {} SET seq = {end} WHERE {OF} AND seq = {position}", self.table)];
        let flaws = [Flaw::Missing { position }, Flaw::Moved { position: end, from: position }, Flaw::Head];
        Tampering { statements, named: flaws.into_iter().map(self.finding).collect() }
    }

    /// An entry is written once more, at the end or before the last one, which makes room.
    fn insert(&self, t: &TestStore, dice: &mut Dice, last: i64) -> Tampering {
        let Self { table, columns, id, .. } = self;
        let (copied, end) = (1 + dice.below(last - 1), last + 1);
        let new_id = id.replace("id", uuid_of(t));
        let copy = |to: i64| {
            let read = format!("SELECT {to}, {new_id}{columns} FROM {table} WHERE {OF} AND seq = {copied}");
            format!("INSERT INTO {table} (seq, {id}{columns}) {read}")
        };
        let (statements, flaws) = if dice.below(2) == 0 {
            (vec![copy(end)], vec![Flaw::Broken { position: end }, Flaw::Head])
        } else {
            let room = format!("UPDATE {table} SET seq = {end} WHERE {OF} AND seq = {last}");
            let moved = Flaw::Moved { position: end, from: last };
            (vec![room, copy(last)], vec![Flaw::Broken { position: last }, moved, Flaw::Head])
        };
        Tampering { statements, named: flaws.into_iter().map(self.finding).collect() }
    }

    /// The end is cut off, with or without a word to the head.
    fn cut(&self, dice: &mut Dice, last: i64) -> Tampering {
        let (table, head) = (self.table, self.head);
        let kept = last - 1 - dice.below(3);
        let cut = format!("DELETE FROM {table} WHERE {OF} AND seq > {kept}");
        if dice.below(2) == 0 {
            let head = format!(
                "UPDATE {head} SET seq = {kept}, mac = (SELECT mac FROM {table} WHERE {OF} AND seq = {kept}) WHERE {OF}"
            );
            return Tampering { statements: vec![cut, head], named: vec![(self.finding)(Flaw::Head)] };
        }
        let missing = (kept + 1..=last).map(|position| (self.finding)(Flaw::Missing { position }));
        Tampering { statements: vec![cut], named: missing.collect() }
    }

    /// The head goes back, with or without all entries: as if there had never been any.
    fn head(&self, dice: &mut Dice) -> Tampering {
        let (table, head) = (self.table, self.head);
        let change = match dice.below(3) {
            0 => "seq = seq - 1".to_owned(),
            1 => format!("mac = (SELECT mac FROM {table} WHERE {OF} AND seq = 1)"),
            _ => "seal = NULL".to_owned(),
        };
        let statements = vec![format!("UPDATE {head} SET {change} WHERE {OF}")];
        Tampering { statements, named: vec![(self.finding)(Flaw::Head)] }
    }

    /// Changes the book again and again, and each time looks what is said of it.
    #[expect(clippy::print_stdout, reason = "what was measured")]
    async fn tamper(&self, t: &TestStore) {
        let Self { table, head, .. } = self;
        let last = t.number(&format!("SELECT max(seq) FROM {table}")).await;
        let mut dice = Dice(0x5eed);
        let practice = NORTH.parse().unwrap();
        for name in [table, head] {
            t.execute(&format!("CREATE TEMP TABLE kept_{name} AS SELECT * FROM {name}")).await;
        }
        // Nothing of this has to outlast the machine.
        t.execute(match t.home.backend {
            Backend::Sqlite => "PRAGMA synchronous = OFF",
            Backend::Postgres => "SET synchronous_commit = off",
        })
        .await;
        let mut tried = [0_u32; 7];
        for n in 0..tamperings() {
            let kind = if n < 7 { i64::from(n) } else { dice.below(7) };
            tried[usize::try_from(kind).unwrap()] += 1;
            let Tampering { statements, named } = match kind {
                0 => self.edit(t, &mut dice, last),
                1 => self.delete(&mut dice, last),
                2 => self.swap(&mut dice, last),
                3 => self.shift(&mut dice, last),
                4 => self.cut(&mut dice, last),
                5 => self.insert(t, &mut dice, last),
                _ => self.head(&mut dice),
            };
            for statement in &statements {
                t.execute(statement).await;
            }
            let found = t.store.ledger_prove(&t.engine, &practice, &Anchored::default()).await.unwrap().findings;
            // What the ledger says now is not what the gates say, which is found as well.
            let found: Vec<_> = found.into_iter().filter(|finding| !matches!(finding, Finding::Gate { .. })).collect();
            assert_eq!(sorted(&found), sorted(&named), "{n}: {statements:?}");
            for name in [table, head] {
                t.execute(&format!("DELETE FROM {name}")).await;
                t.execute(&format!("INSERT INTO {name} SELECT * FROM kept_{name}")).await;
            }
        }
        println!("edits, deletions, swaps, shifts, cuts, insertions, heads: {tried:?}");
    }
}

/// What an anchor says now.
async fn anchor(t: &TestStore) -> Anchor {
    let heads = t.store.heads(&t.engine, None, 10).await.unwrap();
    // As it is kept: what was written is what is read.
    let anchor = Anchor { time: t.now(), heads };
    assert_eq!(Anchor::from_json(&anchor.to_json()), Some(anchor.clone()));
    anchor
}

impl Book {
    /// Brings an older copy of the book back, again and again, and goes on from there in other words or not at all. The server itself
    /// writes these, so that each chain holds as if its own key had rewritten it.
    #[expect(clippy::print_stdout, reason = "what was measured")]
    async fn undo(&self, t: &TestStore, scope: &Scope) {
        let Self { table, head, finding, .. } = self;
        let practice = NORTH.parse().unwrap();
        let length = async || t.number(&format!("SELECT max(seq) FROM {table}")).await;
        // Copies of both, each beside an anchor, and a longer end than any of them has.
        let (mut anchored, mut copies) = (Anchored::default(), Vec::new());
        for n in 0..8 {
            t.execute(&format!("CREATE TEMP TABLE old_{table}_{n} AS SELECT * FROM {table}")).await;
            t.execute(&format!("CREATE TEMP TABLE old_{head}_{n} AS SELECT * FROM {head}")).await;
            t.advance(3_600);
            anchored.add(anchor(t).await);
            copies.push((length().await, t.now()));
            for m in 0..3 {
                self.add(t, scope, &format!("first-{table}-{n}-{m}")).await;
            }
        }
        let (mut dice, mut tried) = (Dice(0x5eed), [0_u32; 2]);
        for n in 0..tamperings() / 8 {
            let which = usize::try_from(dice.below(7)).unwrap();
            for name in [table, head] {
                t.execute(&format!("DELETE FROM {name}")).await;
                t.execute(&format!("INSERT INTO {name} SELECT * FROM old_{name}_{which}")).await;
            }
            let more = dice.below(2) * dice.below(30);
            for m in 0..more {
                self.add(t, scope, &format!("other-{table}-{n}-{m}")).await;
            }
            let last = length().await;
            let by_itself = t.store.ledger_prove(&t.engine, &practice, &Anchored::default()).await.unwrap().findings;
            assert_eq!(self.flaws(by_itself), [], "nothing else would show it");
            let named: Vec<_> = copies[which + 1..]
                .iter()
                .map(|&(position, anchored)| {
                    tried[usize::from(position > last)] += 1;
                    finding(if position > last {
                        Flaw::Cut { position, anchored }
                    } else {
                        Flaw::Rewritten { position, anchored }
                    })
                })
                .collect();
            let found = t.store.ledger_prove(&t.engine, &practice, &anchored).await.unwrap().findings;
            assert_eq!(sorted(&self.flaws(found)), sorted(&named), "back to {which}, and {more} more");
        }
        println!("{table}: rewritten, cut: {tried:?}");
    }

    /// What is said of this book.
    fn flaws(&self, findings: Vec<Finding>) -> Vec<Finding> {
        let of_this = |finding: &Finding| {
            matches!((self.table, finding), ("audit", Finding::Trail(_)) | ("consent_ledger", Finding::Ledger(_)))
        };
        findings.into_iter().filter(of_this).collect()
    }

    /// Has the server add an entry.
    async fn add(&self, t: &TestStore, scope: &Scope, key: &str) {
        t.advance(1);
        if self.table == "audit" {
            t.store.audit_read(scope, None, key).await.unwrap();
        } else {
            record(t, scope, decision(key, Channel::Push, ConsentState::OptedOut, ConsentSource::Portal)).await;
        }
    }
}

on_both! {
    async fn every_change_of_a_ledger_is_named(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        fill(t, &scope).await;
        proves(t).await;
        CONSENT.tamper(t).await;
        proves(t).await;
    }

    async fn every_change_of_a_trail_is_named(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 0).await;
        for _ in 0..LENGTH {
            t.advance(7);
            t.store.link_open(&t.engine, [1; 32]).await.unwrap();
        }
        proves(t).await;
        AUDIT.tamper(t).await;
        proves(t).await;
    }

    async fn what_was_anchored_cannot_be_undone_even_with_the_key(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        fill(t, &scope).await;
        CONSENT.undo(t, &scope).await;
        AUDIT.undo(t, &scope).await;
    }

    async fn several_changes_are_named_one_by_one(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        fill(t, &scope).await;
        for statement in [
            "UPDATE consent_ledger SET state = 3 - state WHERE seq IN (3, 4, 20)",
            "DELETE FROM consent_ledger WHERE seq IN (10, 11)",
            "UPDATE consent_ledger SET seq = -1 WHERE seq = 30",
            "UPDATE consent_ledger SET seq = 30 WHERE seq = 33",
            "UPDATE consent_ledger SET seq = 33 WHERE seq = -1",
        ] {
            t.execute(statement).await;
        }
        let found = t.store.ledger_prove(&t.engine, &NORTH.parse().unwrap(), &Anchored::default()).await.unwrap().findings;
        let found: Vec<_> = found.into_iter().filter(|finding| !matches!(finding, Finding::Gate { .. })).collect();
        let named = [
            Finding::Ledger(Flaw::Broken { position: 3 }),
            Finding::Ledger(Flaw::Broken { position: 4 }),
            Finding::Ledger(Flaw::Missing { position: 10 }),
            Finding::Ledger(Flaw::Missing { position: 11 }),
            Finding::Ledger(Flaw::Unlinked { position: 12 }),
            Finding::Ledger(Flaw::Broken { position: 20 }),
            Finding::Ledger(Flaw::Moved { position: 30, from: 33 }),
            Finding::Ledger(Flaw::Moved { position: 33, from: 30 }),
        ];
        assert_eq!(sorted(&found), sorted(&named));
        // So that what follows every test finds a ledger that holds no nonsense.
        t.execute("DELETE FROM consent_ledger").await;
    }

    async fn an_entry_of_another_practice_is_foreign_here(t: &TestStore) {
        let north = ready_practice(t, NORTH).await;
        let south = ready_practice(t, SOUTH).await;
        for scope in [&north, &south] {
            record(t, scope, decision("c1", Channel::Sms, ConsentState::OptedOut, ConsentSource::Portal)).await;
        }
        t.execute("DELETE FROM consent_ledger WHERE practice_id = 'south'").await;
        t.execute("UPDATE consent_ledger SET practice_id = 'south'").await;
        let found = |practice: &'static str| {
            let practice = practice.parse::<heedwell::domain::PracticeId>().unwrap();
            async move { t.store.ledger_prove(&t.engine, &practice, &Anchored::default()).await.unwrap().findings }
        };
        assert_eq!(found(SOUTH).await, [Finding::Ledger(Flaw::Broken { position: 1 })]);
        assert!(found(NORTH).await.contains(&Finding::Ledger(Flaw::Missing { position: 1 })));
        let practices: Vec<String> =
            t.store.ledgers(&t.engine).await.unwrap().iter().map(|practice| practice.as_str().to_owned()).collect();
        assert_eq!(practices, [NORTH, SOUTH]);
    }

    async fn a_gate_that_was_opened_by_hand_is_found(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        text(t, &scope, 1, "+12025550142", Meaning::Stop).await;
        let practice = NORTH.parse().unwrap();
        let found = async || t.store.ledger_prove(&t.engine, &practice, &Anchored::default()).await.unwrap().findings;
        let gate = |patient: Option<&str>| Finding::Gate {
            channel: Channel::Sms,
            patient: patient.map(str::to_owned),
            position: 1,
        };
        t.execute("UPDATE recipient_gate SET consent = 0 WHERE subject_kind = 2 AND channel = 3").await;
        assert_eq!(found().await, [gate(None)]);
        t.execute("UPDATE recipient_gate SET consent = 1 WHERE subject_kind = 1 AND channel = 3").await;
        assert_eq!(found().await, [gate(Some("maria")), gate(None)]);
        t.execute("DELETE FROM recipient_gate WHERE subject_kind = 1 AND channel = 3").await;
        assert_eq!(found().await, [gate(None), gate(Some("maria"))]);
        t.execute("DELETE FROM recipient_gate").await;
        assert_eq!(found().await, [gate(None), gate(Some("maria"))]);
    }

    async fn a_ledger_that_is_gone_whole_is_missed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let practice = NORTH.parse().unwrap();
        record(t, &scope, decision("c1", Channel::Push, ConsentState::OptedOut, ConsentSource::Portal)).await;
        for statement in [
            "DELETE FROM recipient_gate",
            "DELETE FROM consent_ledger",
            "UPDATE consent_head SET seq = 0, mac = (SELECT mac FROM audit_head)",
            "UPDATE consent_head SET seal = NULL",
            "DELETE FROM consent_head",
        ] {
            t.execute(statement).await;
            let head = t.store.ledger_prove(&t.engine, &practice, &Anchored::default()).await.unwrap().findings.contains(&Finding::Ledger(Flaw::Head));
            // The head still says that there was an entry.
            assert_eq!(head, !["DELETE FROM recipient_gate", "DELETE FROM consent_ledger"].contains(&statement), "{statement}");
            assert_eq!(t.store.ledgers(&t.engine).await.unwrap(), std::slice::from_ref(&practice));
        }
    }

    async fn an_attempt_that_began_after_an_opt_out_is_found(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let practice = NORTH.parse().unwrap();
        let found = async || t.store.ledger_prove(&t.engine, &practice, &Anchored::default()).await.unwrap().findings;
        record(t, &scope, decision("c1", Channel::Sms, ConsentState::OptedOut, ConsentSource::Portal)).await;
        record(t, &scope, decision("c2", Channel::Sms, ConsentState::OptedIn, ConsentSource::Portal)).await;
        let first = claimed_and_sent(t, &scope, "r1").await;
        record(t, &scope, decision("c3", Channel::Sms, ConsentState::OptedOut, ConsentSource::Portal)).await;
        assert_eq!(found().await, []);
        // As if it had been claimed with the opt-out before its eyes.
        t.execute("UPDATE attempt SET consent_seq = 3").await;
        let sent = |position, consulted| Finding::SentAfterOptOut { delivery: first, attempt: 1, position, consulted };
        assert_eq!(found().await, [sent(3, 3)]);
        t.execute("UPDATE attempt SET consent_seq = 1").await;
        assert_eq!(found().await, [sent(1, 1)]);
        t.execute("UPDATE attempt SET consent_seq = 9").await;
        let ahead = Finding::Ahead { delivery: first, attempt: 1, consulted: 9 };
        assert_eq!(found().await, [ahead, sent(3, 9)]);
        // By the number: a STOP that came while it was another's.
        t.execute("UPDATE attempt SET consent_seq = 2").await;
        assert_eq!(found().await, []);
        text(t, &scope, 1, "+12025550142", Meaning::Stop).await;
        assert_eq!(found().await, []);
        t.execute("UPDATE delivery SET patient_id = 'nobody'").await;
        t.execute("UPDATE attempt SET consent_seq = 4").await;
        assert_eq!(found().await, [sent(4, 4)]);
        t.execute("UPDATE delivery SET patient_id = 'maria'").await;
    }
}

async fn claimed_and_sent(t: &TestStore, scope: &Scope, key: &str) -> DeliveryId {
    Order::new(key, &[Channel::Sms]).accept(t, scope).await;
    let claimed = claim_one(t, scope).await;
    settle(t, &claimed, accepted("SM1")).await;
    claimed.id
}

fn sorted(findings: &[Finding]) -> Vec<String> {
    let mut texts: Vec<_> = findings.iter().map(|finding| format!("{finding:?}")).collect();
    texts.sort();
    texts
}

#[test]
fn a_finding_names_its_place() {
    let delivery = DeliveryId(uuid::Uuid::nil());
    for (finding, text) in [
        (Finding::Ledger(Flaw::Missing { position: 7 }), "entry 7 is missing"),
        (Finding::Ledger(Flaw::Broken { position: 7 }), "entry 7 is not what was written there"),
        (Finding::Ledger(Flaw::Moved { position: 7, from: 9 }), "entry 7 was written as entry 9"),
        (Finding::Trail(Flaw::Missing { position: 7 }), "audit trail: entry 7 is missing"),
        (
            Finding::SentAfterOptOut { delivery, attempt: 2, position: 7, consulted: 8 },
            "attempt 2 of delivery 00000000-0000-0000-0000-000000000000 began after the opt-out of entry 7 (consulted: 8)",
        ),
        (
            Finding::Gate { channel: Channel::Sms, patient: Some("maria".into()), position: 7 },
            "the SMS gate of patient maria does not say what entry 7 says",
        ),
    ] {
        assert_eq!(finding.to_string(), text);
    }
}
