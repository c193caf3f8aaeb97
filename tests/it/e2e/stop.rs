//! The stop of a server: in time, whoever hangs on, and without breaking what is under way.

use std::time::Duration;

use futures::future::{join, join_all};
use heedwell::{
    domain::Role,
    grpc::proto::{Channel, DeliveryFilter},
};
use sea_orm::ConnectionTrait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::transport::Endpoint;

use super::{
    given::{bare_practice, new_key, practice, reminder, request, send_over},
    seen::{Watcher, everything, image},
};
use crate::support::app::{ACME, Caller, LIMIT, Pass, TestApp, on_a_server};

/// A watch over a connection of its own, in the name of a subject that may have any number.
async fn watch_apart(t: &TestApp) -> Watcher {
    let channel = Endpoint::from_shared(format!("http://{}", t.addresses()[0])).unwrap().connect().await.unwrap();
    let token = t.token_of(&Pass::new(&[Role::Staff, Role::Portal], &[ACME]));
    let request = heedwell::grpc::proto::WatchDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
    let steps = Caller::new(channel, &token).notify.watch_deliveries(request).await.unwrap().into_inner();
    Watcher::of(steps).await.unwrap()
}

on_a_server! {
    sqlite:
    async fn five_hundred_watches_and_mute_connections_do_not_hold_up_a_stop(t: &mut TestApp) {
        practice(t).await;
        let mut watchers = join_all((0..500).map(|_| watch_apart(t))).await;
        let mut mute = Vec::new();
        for addr in t.addresses() {
            for _ in 0..50 {
                mute.push(TcpStream::connect(addr).await.unwrap());
            }
        }
        let id = send_over(t, "pat", Channel::InApp).await;
        let begin = Instant::now();
        let app = t.take();
        let ends = join_all(watchers.iter_mut().map(async |watcher: &mut Watcher| {
            let mut seen = Vec::new();
            // OK is what the end of a stream without an error is.
            while let Some(step) = watcher.step().await.unwrap() {
                seen.extend(step.changes.iter().map(|change| image(change).delivery_id.clone()));
            }
            seen
        }));
        let (seen, ()) = join(ends, app.stop()).await;
        // Without the guards it takes 19 s; with them, well below a second on a machine at rest.
        assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
        for connection in &mut mute {
            // Whatever the server had to say, such as its settings of HTTP/2, ends.
            let _ = timeout(LIMIT, connection.read_to_end(&mut Vec::new())).await.expect("it is closed");
        }
        t.start().await;
        // What came before the end or comes after it is seen once.
        for (watcher, mut seen) in watchers.iter().zip(seen).take(20) {
            if seen.is_empty() {
                let mut resumed = Watcher::from(t, &watcher.cursor).await;
                seen.extend(resumed.changes().await.iter().map(|change| image(change).delivery_id.clone()));
            }
            assert!(seen.iter().all(|seen| *seen == id));
        }
    }

    async fn a_reader_that_takes_nothing_cannot_keep_the_server(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        // It never reads again, and never answers a ping either: what it is owed cannot be delivered.
        let mut raw = TcpStream::connect(t.addresses()[0]).await.unwrap();
        raw.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut head = [0; 9];
        raw.read_exact(&mut head).await.unwrap();
        let begin = Instant::now();
        timeout(LIMIT, t.take().stop()).await.expect("it stops");
        assert!(begin.elapsed() < Duration::from_secs(21), "{:?}", begin.elapsed());
        t.start().await;
    }

    async fn a_call_under_way_ends_as_if_nothing_were(t: &mut TestApp) {
        practice(t).await;
        let raw = t.home.raw().await;
        raw.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
        let (mut sender, input) = (t.sender(), reminder(t, "pat", &[Channel::InApp]));
        let send = sender.send_notification(request(&new_key(), input));
        tokio::pin!(send);
        // It is in the server once the server has more than one connection's worth of work: it waits for the lock.
        assert!(timeout(Duration::from_millis(500), send.as_mut()).await.is_err());
        let app = t.take();
        let stop = async {
            let stop = app.stop();
            tokio::pin!(stop);
            assert!(timeout(Duration::from_millis(500), stop.as_mut()).await.is_err(), "it waits for the call");
            raw.execute_unprepared("ROLLBACK").await.unwrap();
            stop.await;
        };
        let (sent, ()) = join(send.as_mut(), stop).await;
        let id = sent.unwrap().into_inner().notification.unwrap().deliveries[0].delivery_id.clone();
        raw.close().await.unwrap();
        t.start().await;
        assert_eq!(everything(t).await.iter().map(|it| it.delivery_id.clone()).collect::<Vec<_>>(), [id]);
    }

    async fn before_it_stops_it_is_not_ready_but_serves(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| config.drain = Duration::from_secs(2)).await;
        let mut health = tonic_health::pb::health_client::HealthClient::new(t.channel());
        let mut watch = health.watch(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
        let serving = tonic_health::pb::health_check_response::ServingStatus::Serving as i32;
        assert_eq!(watch.message().await.unwrap().unwrap().status, serving);
        let (mut sender, ready) = (t.sender(), t.url("/readyz"));
        let input = reminder(t, "pat", &[Channel::InApp]);
        let filter = DeliveryFilter::default();
        let mut watcher = Watcher::open(t, filter, None).await;
        let app = t.take();
        let meanwhile = async {
            assert_ne!(watch.message().await.unwrap().unwrap().status, serving);
            assert_eq!(reqwest::get(ready).await.unwrap().status(), 503);
            sender.send_notification(request(&new_key(), input)).await.unwrap();
            assert_eq!(watcher.changes().await.len(), 1);
        };
        join(app.stop(), meanwhile).await;
        t.start().await;
    }
}
