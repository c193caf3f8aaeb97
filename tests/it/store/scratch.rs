use super::given::practice;
use super::*;
use crate::support::{Backend, run};

async fn measure(t: &TestStore) {
    let names: Vec<String> = (0..50).map(|n| format!("p{n}")).collect();
    for name in &names {
        t.store.practice_put(&t.scope(name), practice(name), None).await.unwrap();
    }
    let scopes: Vec<_> = names.iter().map(|name| t.scope(name)).collect();
    for round in 0..5 {
        for (what, kind) in [("across", 0), ("within hot", 1), ("within 50 practices", 2), ("write within", 3)] {
            let n = if kind == 3 { 300 } else { 2000 };
            let start = tokio::time::Instant::now();
            for i in 0..n {
                match kind {
                    0 => drop(t.store.feed_heads(&t.engine, &[scopes[i % 50].practice().clone()]).await.unwrap()),
                    1 => drop(t.store.feed_head(&scopes[7]).await.unwrap()),
                    2 => drop(t.store.feed_head(&scopes[i % 50]).await.unwrap()),
                    _ => drop(t.store.practice_put(&scopes[i % 50], practice(&names[i % 50]), None).await.unwrap()),
                }
            }
            println!("{round} {what}: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / n as f64);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scratch_measure() {
    run(Backend::Postgres, measure).await;
}
