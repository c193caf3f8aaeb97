//! Practices are sealed from each other: every call of the contract, with every name in it that stands for something of a practice,
//! in every role. What is another's looks like what is nobody's; nothing of another practice is shown, changed or confirmed.

mod calls;
mod swaps;
mod tokens;
pub(super) mod wire;
mod world;

use std::collections::BTreeSet;

use futures::future::join_all;
use heedwell::domain::Role;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use self::{
    calls::{Base, NAMES, PRACTICE, WORDS},
    wire::{Answer, Field, Wire, places, texts},
    world::{Home, Whose, canary, pass},
};
use super::access::CALLS;
use crate::support::{
    Backend,
    app::{ACME, TestApp, run},
};

/// The other practice, which is there, and one that is not.
const BETA: &str = "beta";
const ZETA: &str = "zeta";

type Tried = Result<Answer, Status>;

/// Two practices, and who asks.
struct Matrix<'a> {
    t: &'a TestApp,
    wire: Wire,
    bases: Vec<Base>,
    own: Home,
    other: Home,
    /// What the other practice alone has.
    marks: BTreeSet<String>,
    tokens: Vec<(Role, String)>,
}

/// Makes a practice that has something of everything, and waits until nothing of it is under way.
pub(super) async fn furnish(t: &TestApp, practice: &'static str) {
    Home::make(t, &Wire::new(), practice, &calls::all()).await.rests(t).await;
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// What a caller can tell of an answer, but for what is another each time, and for the id that was asked about.
fn told(tried: &Tried, id: &str) -> String {
    let hide = |text: String| if id.is_empty() { text } else { text.replace(id, "THIS") };
    match tried {
        Ok(answer) => hide(without_chance(&answer.json).to_string()),
        Err(status) => {
            let details = String::from_utf8_lossy(status.details()).into_owned();
            hide(format!("{:?} {} {details}", status.code(), status.message()))
        }
    }
}

/// Without times, ids that were made for this answer, and tokens.
fn without_chance(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter(|(name, _)| !["Time", "ursor", "Token", "etag"].iter().any(|end| name.ends_with(end)));
            kept.map(|(name, value)| (name.clone(), without_chance(value))).collect()
        }
        Value::Array(values) => values.iter().map(without_chance).collect(),
        Value::String(text) if text.parse::<uuid::Uuid>().is_ok() => json!("ID"),
        Value::String(text) if text.starts_with("key-") => json!("KEY"),
        value => value.clone(),
    }
}

impl<'a> Matrix<'a> {
    async fn new(t: &'a TestApp) -> Self {
        let (wire, bases) = (Wire::new(), calls::all());
        let own = Home::make(t, &wire, ACME, &bases).await;
        let other = Home::make(t, &wire, BETA, &bases).await;
        other.rests(t).await;
        let marks = other.marks();
        let tokens = Role::ALL.into_iter().map(|role| (role, t.token_of(&pass(&[role], ACME)))).collect();
        Self { t, wire, bases, own, other, marks, tokens }
    }

    async fn call(&self, token: &str, base: &Base, request: &Value) -> Tried {
        self.wire.call(self.t.channel(), token, base.call, request).await
    }

    /// Each base with its number.
    fn bases(&self) -> impl Iterator<Item = (usize, &Base)> {
        self.bases.iter().enumerate()
    }

    fn names(&self, base: &Base) -> Vec<(Field, String, String)> {
        places(&self.wire.request(base.call), &base.request)
    }

    /// A request in which each name stands for what `whose` says of its place.
    fn request(&self, number: usize, practice: &str, whose: impl Fn(&str) -> Whose) -> Value {
        let base = &self.bases[number];
        let mut request = base.request.clone();
        for (_, path, name) in self.names(base) {
            let value = self.own.value(&name, number, whose(&path), &self.other);
            *request.pointer_mut(&path).unwrap() = json!(value);
        }
        request[PRACTICE] = json!(practice);
        request
    }

    fn may(base: &Base, role: Role) -> bool {
        let (_, roles) = CALLS.iter().find(|(call, ..)| *call == base.call).unwrap();
        // The texts of a notification are for staff.
        let roles = if base.request["view"] == json!(2) { &[Role::Staff] } else { *roles };
        roles.contains(&role) || role == Role::PracticeAdmin && roles.contains(&Role::Staff)
    }

    /// Fails if there is anything of the other practice in an answer, but for `asked`, which the caller said.
    fn tells_nothing(&self, tried: &Tried, asked: &Value, what: &str) {
        let asked = asked.to_string();
        let bytes = match tried {
            Ok(answer) => answer.bytes.clone(),
            Err(status) => [status.message().as_bytes(), status.details()].concat(),
        };
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        for mark in self.marks.iter().filter(|mark| !asked.contains(mark.as_str())) {
            assert!(!text.contains(&mark.to_lowercase()), "{what} tells {mark}");
        }
        assert!(!text.contains(&canary(BETA).to_lowercase()), "{what} tells a text");
        let code = tried.as_ref().err().map(Status::code);
        assert!(
            !matches!(code, Some(Code::Internal | Code::Unknown | Code::Unavailable | Code::DeadlineExceeded)),
            "{what}: {code:?}"
        );
    }

    /// In the name of each role; yields what each was told.
    async fn all_roles(&self, base: &Base, request: impl Fn() -> Value) -> Vec<(Role, Value, Tried)> {
        self.roles(base, |_| true, request).await
    }

    /// In the name of some roles.
    async fn roles(
        &self,
        base: &Base,
        some: impl Fn(Role) -> bool,
        request: impl Fn() -> Value,
    ) -> Vec<(Role, Value, Tried)> {
        join_all(self.tokens.iter().filter(|(role, _)| some(*role)).map(async |(role, token)| {
            let request = request();
            let tried = self.call(token, base, &request).await;
            (*role, request, tried)
        }))
        .await
    }

    /// With a token of one practice, in the name of the other, or of one that is not there. Yields the number of cases.
    async fn claims_of_another_practice(&self) -> usize {
        let (mut cases, mut answers) = (0, BTreeSet::new());
        for (number, base) in self.bases() {
            for practice in [BETA, ZETA, "", "beta ", "*"] {
                for whose in [Whose::Own, Whose::Foreign, Whose::Nobodys] {
                    for (role, request, tried) in
                        self.all_roles(base, || self.request(number, practice, |_| whose)).await
                    {
                        let what = format!("{} of {practice} as {role:?} with {whose:?}", base.call);
                        self.tells_nothing(&tried, &request, &what);
                        let status = tried.err().unwrap_or_else(|| panic!("{what} is answered"));
                        assert_eq!(
                            (status.code(), reason(&status).as_str()),
                            (Code::PermissionDenied, "SCOPE_FORBIDDEN"),
                            "{what}"
                        );
                        answers.insert((status.message().to_owned(), status.details().to_vec()));
                        cases += 1;
                    }
                }
            }
        }
        assert_eq!(answers.len(), 1, "they are not told apart");
        cases
    }

    /// With what is one's own, or was, all is well for whoever may. Yields the number of cases.
    async fn what_is_ones_own(&self) -> usize {
        let mut cases = 0;
        for (number, base) in self.bases() {
            let (_, token) = self.tokens.iter().find(|(role, _)| *role == base.by).unwrap();
            let tried = self.call(token, base, &self.request(number, ACME, |_| Whose::Own)).await;
            if let Err(status) = &tried {
                // It was found, which is what counts here.
                let found = reason(status) == "STATE_FORBIDS";
                assert!(found, "{} {}: {:?} {}", base.call, base.request, status.code(), status.message());
            }
            for whose in [Whose::Own, Whose::Closed] {
                for (role, request, tried) in self.all_roles(base, || self.request(number, ACME, |_| whose)).await {
                    let what = format!("{} as {role:?} with {whose:?}", base.call);
                    self.tells_nothing(&tried, &request, &what);
                    let denied = tried.as_ref().err().is_some_and(|status| reason(status) == "ROLE_REQUIRED");
                    assert_eq!(denied, !Self::may(base, role), "{what}: {}", told(&tried, ""));
                    cases += 1;
                }
            }
        }
        cases
    }

    /// One name at a time stands for what is the other's, and then for what is nobody's: nobody can tell the two apart.
    async fn what_is_anothers(&self) -> usize {
        let mut cases = 0;
        for (number, base) in self.bases() {
            for (_, path, name) in self.names(base) {
                let path = path.as_str();
                let at = |whose| move |place: &str| if place == path { whose } else { Whose::Own };
                // A key makes one thing, however many roles somebody has who uses it.
                let some = |role| name != "$key" || role == base.by || !Self::may(base, role);
                let foreign = self.roles(base, some, || self.request(number, ACME, at(Whose::Foreign))).await;
                let nobodys = self.roles(base, some, || self.request(number, ACME, at(Whose::Nobodys))).await;
                for ((role, said, foreign), (_, also, nobodys)) in foreign.iter().zip(&nobodys) {
                    let what = format!("{} as {role:?} with another's {name}", base.call);
                    self.tells_nothing(foreign, said, &what);
                    let id = |request: &Value| request.pointer(path).unwrap().as_str().unwrap().to_owned();
                    let (one, other) = (told(foreign, &id(said)), told(nobodys, &id(also)));
                    // What a first call does may leave nothing for a second one.
                    if base.reads || foreign.is_err() {
                        assert_eq!(one, other, "{what}");
                    }
                    if let (Ok(answer), "$key") = (foreign, name.as_str()) {
                        assert!(
                            !answer.json.to_string().contains("\"replayed\":true"),
                            "{what} is answered with another's"
                        );
                    }
                    if let (false, Err(status)) = (Self::may(base, *role), foreign) {
                        assert_eq!(reason(status), "ROLE_REQUIRED", "{what}");
                    }
                    cases += 2;
                }
            }
        }
        cases
    }
}

/// No name may be left out: where a request has a field of text, that is known to be a name that a base has, or words.
#[test]
fn every_field_of_every_request_is_known_and_every_name_is_tried() {
    let (wire, bases) = (Wire::new(), calls::all());
    let listed = |table: &[(&str, &[&str])]| -> BTreeSet<Field> {
        table
            .iter()
            .flat_map(|(message, fields)| fields.iter().map(|field| ((*message).to_owned(), (*field).to_owned())))
            .collect()
    };
    let words = listed(WORDS);
    let names: BTreeSet<Field> = NAMES
        .iter()
        .flat_map(|(message, fields)| fields.iter().map(|(field, _)| ((*message).to_owned(), (*field).to_owned())))
        .collect();
    let mut wrong = Vec::new();
    wrong.extend(words.intersection(&names).map(|both| format!("{both:?} is a name, or words")));
    let (mut left_words, mut left_names) = (words.clone(), names.clone());
    for call in wire.calls() {
        let message = wire.request(&call);
        let tried: BTreeSet<Field> = bases
            .iter()
            .filter(|base| base.call == call)
            .flat_map(|base| places(&message, &base.request))
            .map(|(field, ..)| field)
            .collect();
        if !bases.iter().any(|base| base.call == call) {
            wrong.push(format!("{call} is not tried"));
        }
        for field in texts(&message) {
            left_words.remove(&field);
            left_names.remove(&field);
            let practice = field.1 == PRACTICE && message.name() == field.0;
            if !practice && !words.contains(&field) && !names.contains(&field) {
                wrong.push(format!("{call}: {field:?} is not known"));
            } else if names.contains(&field) && !tried.contains(&field) {
                wrong.push(format!("{call}: {field:?} is not tried"));
            }
        }
        for base in bases.iter().filter(|base| base.call == call) {
            for (field, _, name) in places(&message, &base.request) {
                let known = NAMES.iter().find(|(message, _)| *message == field.0);
                if !known.is_some_and(|(_, fields)| fields.contains(&(&*field.1, &*name))) {
                    wrong.push(format!("{call}: {field:?} is not {name}"));
                }
            }
        }
    }
    wrong.extend(left_words.iter().chain(&left_names).map(|field| format!("{field:?} is in no request")));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[expect(clippy::print_stdout, reason = "how much was tried is there to be read: --nocapture")]
async fn matrix(t: &mut TestApp) {
    let matrix = Matrix::new(t).await;
    let before = matrix.other.dump(t).await;
    let own = matrix.what_is_ones_own().await;
    let claims = matrix.claims_of_another_practice().await;
    let others = matrix.what_is_anothers().await;
    let tokens = tokens::matrix(&matrix).await;
    let after = matrix.other.dump(t).await;
    let changed: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(changed.is_empty(), "{changed:#?}");
    let all = claims + others + own + tokens;
    println!(
        "{all} cases: {claims} in the name of another practice, {others} with what is another's, {own} with one's own, {tokens} tokens"
    );
    assert!(all > 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_another_practice_is_shown_changed_or_confirmed_sqlite() {
    run(Backend::Sqlite, matrix).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_another_practice_is_shown_changed_or_confirmed_postgres() {
    run(Backend::Postgres, matrix).await;
}
