//! What an operator sees of a message: one trace from the call to the step of a watch, and metrics of all that went on.

use std::collections::{BTreeMap, BTreeSet};

use heedwell::{
    config::Env,
    grpc::proto::{Channel, DeliveryFilter},
};
use sea_orm::{ConnectionTrait, Statement};
use tonic::Request;

use super::{
    callbacks::{browser, post},
    given::{new_key, practice, reminder, request},
    seen::{Watcher, until_state},
};
use crate::support::{
    Backend,
    app::{TestApp, on_a_server},
    collector::{Collector, said},
};

/// Of a caller that traces.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Has what is traced and measured sent to `collector`.
async fn exports_to(t: &mut TestApp, collector: std::net::SocketAddr) {
    let url = format!("http://{collector}");
    t.restart_with(move |config| {
        config.telemetry.traces_url = Some(url.clone());
        config.telemetry.metrics_url = Some(url.clone());
    })
    .await;
}

/// Sends a text within a trace, and waits until it has arrived and a watch has told so.
async fn sends_a_text(t: &TestApp, parent: Option<&str>) -> String {
    let mut watcher = Watcher::open(t, DeliveryFilter::default(), None).await;
    let mut call = Request::new(request(&new_key(), reminder(t, "pat", &[Channel::Sms])));
    if let Some(parent) = parent {
        call.metadata_mut().insert("traceparent", parent.parse().unwrap());
    }
    let sent = t.sender().send_notification(call).await.unwrap().into_inner().notification.unwrap();
    let id = sent.deliveries[0].delivery_id.clone();
    until_state(t, &id, "DELIVERED").await;
    watcher.until(|delivery| delivery.delivery_id == id && delivery.deliver_time.is_some()).await;
    id
}

/// Deliveries with which a place in a trace is kept.
async fn kept(t: &TestApp) -> i64 {
    let raw = t.home.raw().await;
    let count = "SELECT count(*) FROM delivery WHERE trace IS NOT NULL";
    let row = raw.query_one_raw(Statement::from_string(raw.get_database_backend(), count)).await.unwrap().unwrap();
    raw.close().await.unwrap();
    row.try_get_by_index(0).unwrap()
}

/// What Prometheus would read.
pub(super) async fn metrics(t: &TestApp) -> String {
    let url = format!("http://{}/metrics", t.app().metrics_addr.unwrap());
    let answer = browser().get(url).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.unwrap()
}

/// The value of the only line that begins so.
pub(super) fn value(text: &str, line: &str) -> f64 {
    let lines: Vec<_> = text.lines().filter_map(|it| it.strip_prefix(line)).collect();
    assert_eq!(lines.len(), 1, "{line}: {text}");
    lines[0].trim().parse().unwrap()
}

on_a_server! {
    async fn one_trace_shows_the_call_the_claim_the_provider_the_callback_and_the_step(t: &mut TestApp) {
        let (collector, addr) = Collector::start().await;
        exports_to(t, addr).await;
        practice(t).await;
        let id = sends_a_text(t, Some(PARENT)).await;
        t.stop().await;
        assert_eq!(kept(t).await, 1);

        let spans = collector.spans();
        let own: Vec<_> = spans.iter().filter(|span| hex(&span.trace_id) == PARENT[3..35]).collect();
        let root = own.iter().find(|span| span.name == "heedwell.v1.NotifyService/SendNotification").unwrap();
        assert_eq!(hex(&root.parent_span_id), PARENT[36..52], "it belongs to whoever called");
        assert_eq!(said(root, "rpc.response.status_code"), "OK");
        let steps: BTreeMap<_, _> = own.iter().map(|span| (span.name.as_str(), span)).collect();
        let names: BTreeSet<_> = steps.keys().copied().filter(|name| *name != root.name).collect();
        assert_eq!(names, BTreeSet::from(["callback", "claim", "provider call", "settle", "stream step"]));
        assert!(own.iter().all(|span| span.name == root.name || span.parent_span_id == root.span_id));
        assert!(own.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
        for name in ["claim", "provider call", "settle", "stream step"] {
            assert_eq!(said(steps[name], "delivery.id"), id, "{name}");
        }
        assert_eq!(said(steps["provider call"], "outcome"), "accepted");
        assert_eq!(said(steps["provider call"], "provider"), "twilio");
        assert_eq!(said(steps["callback"], "provider"), "twilio");
        assert!(steps["claim"].start_time_unix_nano <= steps["provider call"].start_time_unix_nano);
        // The other calls are traces of their own.
        assert!(spans.iter().any(|span| span.name.ends_with("/WatchDeliveries") && span.parent_span_id.is_empty()));
        let metrics = collector.metrics();
        assert!(metrics.iter().any(|name| name == "heedwell.provider.call.duration"), "{metrics:?}");
        t.start().await;
    }

    async fn what_its_caller_does_not_record_is_not_recorded_here(t: &mut TestApp) {
        let (collector, addr) = Collector::start().await;
        exports_to(t, addr).await;
        practice(t).await;
        let unrecorded = format!("{}00", &PARENT[..53]);
        sends_a_text(t, Some(&unrecorded)).await;
        t.stop().await;
        assert!(collector.spans().iter().all(|span| hex(&span.trace_id) != PARENT[3..35]));
        assert_eq!(kept(t).await, 0);
        t.start().await;
    }

    async fn without_a_collector_nothing_is_kept_of_a_trace(t: &mut TestApp) {
        practice(t).await;
        sends_a_text(t, Some(PARENT)).await;
        assert_eq!(kept(t).await, 0);
    }

    async fn all_that_goes_on_is_measured(t: &mut TestApp) {
        practice(t).await;
        sends_a_text(t, None).await;
        // Not signed.
        let url = t.url("/webhooks/twilio/acme/inbound");
        let refused = post(&url, None, "application/x-www-form-urlencoded", String::new());
        assert_eq!(refused.await, 403);
        let (store, engine) = t.app().store();
        store.telemetry().metrics.queue(&store.queue_state(engine).await.unwrap());
        let text = metrics(t).await;
        for (line, least) in [
            ("rpc_server_call_duration_seconds_count{rpc_method=\"heedwell.v1.NotifyService/SendNotification\",rpc_response_status_code=\"OK\"}", 1.0),
            ("heedwell_provider_call_duration_seconds_count{channel=\"sms\",outcome=\"accepted\",provider=\"twilio\"}", 1.0),
            ("heedwell_deliveries_settled_total{channel=\"sms\",state=\"delivered\"}", 1.0),
            ("heedwell_callbacks_total{outcome=\"bad_signature\",provider=\"twilio\"}", 1.0),
        ] {
            assert!(value(&text, line) >= least, "{line}: {text}");
        }
        let there: BTreeSet<_> = text.lines().filter(|line| !line.starts_with('#')).flat_map(names).collect();
        for read in ["helm/dashboards/heedwell.json", "helm/alerts/heedwell.yaml"] {
            let wanted = names(&std::fs::read_to_string(read).unwrap());
            assert!(wanted.len() > 5, "{read}: {wanted:?}");
            let missing: Vec<_> = wanted.difference(&there).collect();
            assert!(missing.is_empty(), "{read} reads what is never told: {missing:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_the_log_name_the_trace() {
    let (_collector, addr) = Collector::start().await;
    let tune = |env: &mut Env| env.set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("http://{addr}"));
    let mut t = TestApp::spawn_apart(Backend::Sqlite, "info,heedwell=debug", tune).await.unwrap();
    let said = t.process().said();
    practice(&t).await;
    sends_a_text(&t, Some(PARENT)).await;
    t.stop().await;
    let text = String::from_utf8(said.bytes()).unwrap();
    let trace = format!("trace.id=\"{}\"", &PARENT[3..35]);
    assert!(text.lines().any(|line| line.contains(&trace) && line.contains("call answered")), "{text}");
    t.end().await;
}

/// The words of a text that begin as our metrics do.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_' && char != ':');
    let ours = |word: &&str| ["heedwell_", "rpc_server_", "http_server_"].iter().any(|begin| word.starts_with(begin));
    words.filter(ours).map(str::to_owned).collect()
}
