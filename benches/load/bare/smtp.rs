//! A loop of lettre over sockets with TCP_NODELAY that sends what the product sent, as often as it is told.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use lettre::{
    address::Envelope,
    transport::smtp::{client::AsyncSmtpConnection, extension::ClientId},
};
use tokio::{net::TcpStream, task::JoinSet};
use uuid::Uuid;

use crate::sinks::MESSAGE_ID;

pub(super) async fn send(to: SocketAddr, (count, width): (usize, usize), sample: String) {
    let (before, after) = sample.split_once(MESSAGE_ID).unwrap();
    let (_, after) = after.split_once("\r\n").unwrap();
    let (mail, left) = (Arc::new((before.to_owned(), after.to_owned())), Arc::new(AtomicUsize::new(count)));
    let mut tasks = JoinSet::new();
    for _ in 0..width {
        let (mail, left) = (Arc::clone(&mail), Arc::clone(&left));
        tasks.spawn(async move {
            let stream = TcpStream::connect(to).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut connection =
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &ClientId::default()).await.unwrap();
            let address = |text: &str| text.parse().unwrap();
            let from_to =
                Envelope::new(Some(address("bench@example.test")), vec![address("pat@example.test")]).unwrap();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let bytes = format!("{}{MESSAGE_ID}<{}@bare>\r\n{}", mail.0, Uuid::new_v4(), mail.1);
                connection.send(&from_to, bytes.as_bytes()).await.unwrap();
            }
            connection.quit().await.unwrap();
        });
    }
    tasks.join_all().await;
}
