//! Rendering: what one thread makes of our wording in a second, and seals, beside liquid alone on the same source; and what wording takes that
//! was made to cost time and memory, each in a process of its own, whose highest use of memory is then known.

use std::{collections::BTreeMap, env, fs, hint::black_box, process::Command, time::Duration};

use heedwell::{
    crypto::{DataKey, Place, seal},
    domain::{
        Channel, Content, Kind, Locale, Practice,
        template::{
            self, Escape, Form, Invented, Language, OwnWording, Purpose, Rendering, Template, TemplateRef, Token,
            TokenClass, Values,
        },
    },
};
use liquid::{Object, ParserBuilder, model::Value};
use liquid_lib::stdlib;
use tokio::time::Instant;

use crate::{
    Arguments,
    figures::{Figures, Pairs},
    machine::{Meter, Process, peak},
};

/// What rendering and sealing a message may take together.
const GOAL: Duration = Duration::from_micros(60);
/// What is rendered: its name, where it is read, and whether mail may carry health information.
const FORMS: [(&str, Channel, bool); 5] = [
    ("in-app", Channel::InApp, true),
    ("email", Channel::Email, true),
    ("minimal email", Channel::Email, false),
    ("sms", Channel::Sms, true),
    ("push", Channel::Push, true),
];
/// The longest source that there may be.
const LONGEST: usize = 16 * 1024;

pub(crate) fn run(arguments: &Arguments) {
    if let Some(name) = arguments.text("--bomb") {
        return explode(name);
    }
    let (count, pairs) = (arguments.number("--count", 20_000), arguments.number("--pairs", 5));
    for (name, channel, phi_permitted) in FORMS {
        let (bare, all) = (Bare::of(channel, phi_permitted), invented(channel));
        let (practice, own) = (practice(), OwnWording::NONE);
        let title = format!("render and seal of {name}, {count} each, one thread");
        let mut figures = Pairs::named(&title, ["liquid", "heedwell"]).of("G14");
        let key = DataKey::generate();
        for _ in 0..pairs {
            figures.ceiling(timed(count, |number| bare.render(number)));
            figures.product(timed(count, |number| {
                let ask = Rendering { channel, phi_permitted, ..ask(&all[number % all.len()], &practice, &own) };
                black_box(sealed(&key, &template::render(&ask).unwrap()));
            }));
        }
        figures.each(GOAL);
    }
    println!("wording made to cost time and memory, compiled and rendered once");
    for (name, ..) in bombs() {
        Process::start(Command::new(env::current_exe().unwrap()).args(["renders", "--bomb", name])).wait();
    }
}

/// A text as it is stored.
pub(crate) fn sealed(key: &DataKey, content: &Content) -> Vec<u8> {
    let place = Place { table: "content", column: "body_ct", practice: "practice-0", row: &[7; 16] };
    let texts = [&content.subject, &content.text, &content.link, &content.html].map(|text| text.expose());
    let rest = (content.sms_segments, content.sms_gsm7, &content.template_key, content.template_version);
    seal(key, &place, &serde_json::to_vec(&(texts, rest)).unwrap())
}

/// Works so often, after a tenth to get warm.
fn timed(count: usize, work: impl Fn(usize)) -> Figures {
    (0..count / 10).for_each(&work);
    let meter = Meter::start(std::process::id(), &[], None);
    let start = Instant::now();
    (0..count).for_each(&work);
    Figures { count, time: start.elapsed(), cost: meter.end(), ..Figures::default() }
}

/// The kinds that there is wording of ours for.
fn kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Announcement | Kind::Custom))
}

/// Something to say of each kind.
pub(crate) fn invented(channel: Channel) -> Vec<Invented> {
    let at = |kind| TemplateRef { purpose: Purpose::Kind(kind), channel, locale: Locale::new("en-US") };
    kinds().map(|kind| Invented::new(&at(kind), BTreeMap::new()).unwrap()).collect()
}

pub(crate) fn practice() -> Practice {
    Practice {
        legal_name: "Acme Primary Care, PLLC".into(),
        display_name: "Acme Primary Care".into(),
        phone: None,
        time_zone: "America/New_York".parse().unwrap(),
        locale: "en-US".into(),
        portal_url: Some("https://portal.example.com/".into()),
        postal_address: "500 Elm Street".into(),
    }
}

/// In the inbox, unless it is told otherwise.
pub(crate) fn ask<'a>(of: &'a Invented, practice: &'a Practice, own: &'a OwnWording) -> Rendering<'a> {
    Rendering {
        channel: Channel::InApp,
        payload: &of.payload,
        custom_content: Some(&of.custom_content),
        practice,
        patient: &of.patient,
        own,
        sms_prefix: "Acme Primary Care: ",
        phi_permitted: true,
        link: Some("https://reach.example.com/l/AAAAAAAAAAAAAAAAAAAAAA"),
        unsubscribe: Some("https://reach.example.com/u/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        test: false,
    }
}

/// Liquid as it comes: the parts of each kind's wording, compiled, and a value for every token. It makes no page of a mail, and
/// leaves no line out.
struct Bare {
    wording: Vec<Vec<liquid::Template>>,
    values: Object,
}

impl Bare {
    fn of(channel: Channel, phi_permitted: bool) -> Self {
        let parser = ParserBuilder::new().filter(stdlib::Default).filter(stdlib::Downcase).build().unwrap();
        let compiled = |kind| {
            let form = Form::of(channel, phi_permitted);
            let wording = template::wording(kind, form, Language::English).unwrap();
            [wording.subject, wording.text, wording.preview].map(|part| parser.parse(&part).unwrap()).into()
        };
        let value = |token: &Token| (token.name().into(), Value::scalar("of the usual length"));
        Self { wording: kinds().map(compiled).collect(), values: Token::ALL.iter().map(value).collect() }
    }

    fn render(&self, number: usize) {
        for part in &self.wording[number % self.wording.len()] {
            black_box(part.render(&self.values).unwrap());
        }
    }
}

/// Name and source: two that are refused, two as large as wording may be.
fn bombs() -> [(&'static str, String); 4] {
    [
        ("loop", "{% for x in (1..99999999) %}xxxxxxxx{% endfor %}".into()),
        ("brackets", format!("{{{{ a{}", "a[".repeat(8_000))),
        ("many tokens", "{{link}}".repeat(LONGEST / 8)),
        ("many filters", format!("{{{{ first_name{} }}}}", " | upcase".repeat(1_800))),
    ]
}

/// Tries that one.
fn explode(name: &str) {
    let (_, source) = bombs().into_iter().find(|(known, _)| *known == name).unwrap();
    let mut values = Values::default();
    for token in [Token::Link, Token::FirstName] {
        values.set(token, &"x".repeat(2_000));
    }
    // Whatever is made once is made before.
    let harmless = Template::compile("{{first_name}}", TokenClass::ALL, &[]).unwrap();
    harmless.render(&values, Escape::Html).unwrap();
    let own = std::process::id();
    let (time, memory) = (processor_time(), peak(own));
    let done = Template::compile(&source, TokenClass::ALL, &[]).map(|it| it.render(&values, Escape::Html));
    let (time, memory) = (processor_time() - time, peak(own) - memory);
    let end = if matches!(done, Ok(Ok(_))) { "rendered" } else { "refused" };
    println!("  {name:<13} {end:<9} {:>7.2} ms (goal 50)  {memory:>5.1} MiB (goal 16)", time.as_secs_f64() * 1e3);
}

/// What the processor has given this thread (proc_pid_schedstat).
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}
