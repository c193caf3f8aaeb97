//! Whether a comparison tells by the time it takes how much of a guess is right: guesses that are wrong in their first byte and in
//! their last one, in turns, and Welch's t over how long they took (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?",
//! 2017, whose limit of 4.5 it is). Timing has no place among tests that must always pass; whoever changes a comparison runs this.

use std::hint::black_box;

use base64::{Engine, prelude::BASE64_STANDARD};
use heedwell::{
    crypto::{KeyFile, Purpose, base64url, from_base64url, is_same},
    providers::twilio::callback::Callback,
};
use ring::hmac;
use secrecy::SecretString;
use tokio::time::Instant;

use crate::Arguments;

/// A difference beyond this is none of chance.
const LIMIT: f64 = 4.5;
const SECRET: &str = "a-secret-that-somebody-else-would-like-to-know";

pub(crate) fn run(arguments: &Arguments) {
    let pairs = arguments.number("--pairs", 1_000_000);
    println!("comparisons, {pairs} pairs each: wrong in the first byte, and in the last");
    // What is not to be: were this not seen, nothing else would be.
    let planted = tell("one that stops at the first difference", pairs, &wrong(SECRET.as_bytes(), text), |guess| {
        stops_early(SECRET.as_bytes(), guess.as_bytes())
    });
    assert!(planted.abs() >= LIMIT, "this machine is too restless to see anything");
    let secret = tell("a secret (bounces)", pairs, &wrong(SECRET.as_bytes(), text), |guess| is_same(SECRET, guess));

    let folder = tempfile::tempdir().unwrap();
    let key = KeyFile::create(&folder.path().join("keys")).unwrap().tokens();
    let token = from_base64url(&key.mint(Purpose::PageToken, "acme", &[7; 24])).unwrap();
    // Its last 16 bytes are the MAC, which is what somebody else would have to find.
    let (payload, mac) = token.split_at(token.len() - 16);
    let tokens = wrong(mac, |mac| base64url(&[payload, mac].concat()));
    let token = tell("a token's MAC (cursors, pages, links)", pairs, &tokens, |guess| {
        key.open(Purpose::PageToken, "acme", guess).is_some()
    });

    let url = "https://heedwell.example/webhooks/twilio/acme/status/x";
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes()), url.as_bytes());
    let secrets: [SecretString; 1] = [SECRET.into()];
    let verify = |signature: &str| {
        let (content_type, shared_key) = (Some("application/x-www-form-urlencoded"), false);
        Callback { url, content_type, body: b"", signature: Some(signature), shared_key }.verify(&secrets)
    };
    assert!(verify(&BASE64_STANDARD.encode(tag.as_ref())), "the right one is right");
    let signatures = wrong(tag.as_ref(), |tag| BASE64_STANDARD.encode(tag));
    let signature = tell("a signature (Twilio)", pairs, &signatures, verify);
    assert!([secret, token, signature].iter().all(|t| t.abs() < LIMIT), "a comparison takes longer for a better guess");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Two guesses: wrong in their first byte, and in their last.
fn wrong(right: &[u8], written: impl Fn(&[u8]) -> String) -> [String; 2] {
    [0, right.len() - 1].map(|place| {
        let mut guess = right.to_vec();
        guess[place] ^= 1;
        written(&guess)
    })
}

fn stops_early(known: &[u8], shown: &[u8]) -> bool {
    known.len() == shown.len() && known.iter().zip(shown).all(|(known, shown)| black_box(known) == black_box(shown))
}

/// Says what came out, and yields it.
fn tell(name: &str, pairs: usize, guesses: &[String; 2], tries: impl Fn(&str) -> bool) -> f64 {
    let [first, last] = timed(pairs, guesses, tries);
    let t = (first.mean - last.mean) / (first.variance / first.count + last.variance / last.count).sqrt();
    println!("  {name}: {:.1} and {:.1} ns, t {t:.2} (limit {LIMIT})", first.mean, last.mean);
    t
}

/// How long one class of guesses took, in nanoseconds.
struct Times {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Times {
    fn of(times: impl Iterator<Item = f64> + Clone) -> Self {
        let (count, sum) = times.clone().fold((0.0, 0.0), |(count, sum), time| (count + 1.0, sum + time));
        let mean = sum / count;
        let squares: f64 = times.map(|time| (time - mean).powi(2)).sum();
        Self { count, mean, variance: squares / (count - 1.0) }
    }
}

/// Makes guesses of both classes in turns, whose order is by chance, after a tenth to get warm. The slowest hundredth of both together
/// is left out: in it the machine did something else.
fn timed(pairs: usize, guesses: &[String; 2], tries: impl Fn(&str) -> bool) -> [Times; 2] {
    let mut times = [Vec::with_capacity(pairs), Vec::with_capacity(pairs)];
    // Both are tried from the same place in memory.
    let mut guess = String::with_capacity(guesses[0].len().max(guesses[1].len()));
    for pair in 0..pairs + pairs / 10 {
        let begin = rand::random_range(0..2_usize);
        for class in [begin, 1 - begin] {
            guess.clear();
            guess.push_str(&guesses[class]);
            let start = Instant::now();
            let is_right = black_box(tries(black_box(&guess)));
            let took = start.elapsed();
            assert!(!is_right, "a wrong guess is wrong");
            if pair >= pairs / 10 {
                times[class].push(took.as_secs_f64() * 1e9);
            }
        }
    }
    let mut all = times.concat();
    all.sort_unstable_by(f64::total_cmp);
    let longest = all[all.len() * 99 / 100];
    times.map(|times| Times::of(times.iter().copied().filter(|time| *time <= longest)))
}
