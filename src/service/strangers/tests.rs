#![expect(clippy::unwrap_used, reason = "tests")]

use tokio::sync::{mpsc, watch};

use super::*;

#[tokio::test]
async fn a_turn_ends_with_its_work_and_not_with_whoever_asked_for_it() {
    let (strangers, end) = (Strangers::default(), watch::Sender::new(false));
    let (begins, mut begun) = mpsc::unbounded_channel();
    let ask = || {
        let (strangers, begins, mut ended) = (strangers.clone(), begins.clone(), end.subscribe());
        let work = async move {
            begins.send(()).unwrap();
            ended.wait_for(|ended| *ended).await.unwrap();
            Ok(())
        };
        tokio::spawn(async move { strangers.work(work).await })
    };
    for _ in 0..AT_ONCE {
        let asked = ask();
        begun.recv().await.unwrap();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
    }
    assert_eq!(strangers.0.available_permits(), 0);
    let next = ask();
    end.send_replace(true);
    next.await.unwrap().unwrap();
    drop(strangers.0.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap());
}
