//! Faults on demand, for the chaos runs and for nothing else: points at which the process dies or waits (`failpoint!`),
//! bugs that a validator must catch (`mutant!`), and shorter times (`dialled!`). They are told by `HEEDWELL_TEST_…` variables.
//! Guarantee: without the features `failpoints` and `mutants` each of these macros is what it was given, or nothing.

#[cfg(all(any(feature = "failpoints", feature = "mutants"), not(debug_assertions)))]
compile_error!("failpoints and mutants are for test builds: no release may have them");

/// A point that is passed; or one in the midst of a future. On the road of a message they are, each just after what it names:
/// F1 the request is read; F2 its rows are inserted, not committed; F3 committed, not answered; F4 a page of a broadcast is
/// committed; F5 claimed, not committed; F6 committed, no call begun; F7 connected; F8 the request is written, no answer yet;
/// F9 answered, not settled; F10 deliveries are changed, but not the feed; F11 any COMMIT, before its hint; F12 a parked report is taken;
/// F13 a report is applied, not answered; F14 what stops messages is committed, not answered. `gates` is between the locks of
/// gates and their last reading, `feed` between the numbering of changes and their COMMIT.
macro_rules! failpoint {
    ($point:literal) => {{
        #[cfg(feature = "failpoints")]
        $crate::failpoint::reach($point).await;
    }};
    ($point:literal, $future:expr) => {{
        #[cfg(feature = "failpoints")]
        {
            $crate::failpoint::during($point, $future)
        }
        #[cfg(not(feature = "failpoints"))]
        {
            $future
        }
    }};
}

/// The builder of an HTTP client, with F7 at the end of every connect.
macro_rules! failpoint_on_connect {
    ($builder:expr) => {{
        #[cfg(feature = "failpoints")]
        {
            $builder.connector_layer(tower::util::MapResponseLayer::new(|connection| {
                $crate::failpoint::reach_now("F7");
                connection
            }))
        }
        #[cfg(not(feature = "failpoints"))]
        {
            $builder
        }
    }};
}

/// Whether the process was told to have the bug of that name.
macro_rules! mutant {
    ($name:literal) => {{
        #[cfg(feature = "mutants")]
        {
            $crate::failpoint::is_planted($name)
        }
        #[cfg(not(feature = "mutants"))]
        {
            false
        }
    }};
}

/// A turn among few that the process has to wait for, if it was told to have the bug of that name.
macro_rules! mutant_turn {
    ($name:literal) => {{
        #[cfg(feature = "mutants")]
        {
            $crate::failpoint::turn($name).await
        }
        #[cfg(not(feature = "mutants"))]
        {
            None::<()>
        }
    }};
}

/// A time, or the shorter one that a test gave for it.
macro_rules! dialled {
    ($name:literal, $time:expr) => {{
        #[cfg(feature = "failpoints")]
        {
            $crate::failpoint::dialled($name, $time)
        }
        #[cfg(not(feature = "failpoints"))]
        {
            $time
        }
    }};
}

/// How many of something, or how many a test wants instead.
macro_rules! counted {
    ($name:literal, $count:expr) => {{
        #[cfg(feature = "failpoints")]
        {
            $crate::failpoint::counted($name, $count)
        }
        #[cfg(not(feature = "failpoints"))]
        {
            $count
        }
    }};
}

/// A moment, or an earlier one if a test had the time until then divided.
macro_rules! hastened {
    ($now:expr, $moment:expr) => {{
        #[cfg(feature = "failpoints")]
        {
            $crate::failpoint::hastened($now, $moment)
        }
        #[cfg(not(feature = "failpoints"))]
        {
            $moment
        }
    }};
}

#[cfg(feature = "failpoints")]
pub(crate) use points::{counted, dialled, during, hastened, reach, reach_now};

#[cfg(feature = "failpoints")]
mod points {
    use std::{
        path::{Path, PathBuf},
        sync::{
            LazyLock,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use chrono::{DateTime, Utc};
    use tokio::time::sleep;

    /// By then a request has been written, and a stand-in that takes its time has not answered yet.
    const MIDST: Duration = Duration::from_millis(30);
    const LOOK: Duration = Duration::from_millis(10);

    /// `HEEDWELL_TEST_FAILPOINT`: a point, the how-manieth passage (0: each), and a barrier's file; without one the process
    /// dies.
    struct Order {
        point: String,
        nth: usize,
        barrier: Option<PathBuf>,
    }

    static ORDER: LazyLock<Option<Order>> = LazyLock::new(|| {
        let text = std::env::var("HEEDWELL_TEST_FAILPOINT").ok()?;
        let mut parts = text.splitn(3, ' ');
        let point = parts.next()?.to_owned();
        let nth = parts.next().and_then(|nth| nth.parse().ok()).unwrap_or(1);
        Some(Order { point, nth, barrier: parts.next().map(PathBuf::from) })
    });
    static PASSED: AtomicUsize = AtomicUsize::new(0);

    /// Dies here, or yields the barrier to wait at, if this is the passage that was ordered.
    fn barrier(point: &str) -> Option<&'static Path> {
        let order = ORDER.as_ref().filter(|order| order.point == point)?;
        if order.nth != 0 && PASSED.fetch_add(1, Ordering::SeqCst) + 1 != order.nth {
            return None;
        }
        let Some(barrier) = order.barrier.as_deref() else { std::process::abort() };
        if !barrier.exists() {
            return None;
        }
        // Whoever made the barrier sees by this that somebody waits at it, and lets go by taking it away.
        let _ = std::fs::write(barrier.with_extension("reached"), "");
        Some(barrier)
    }

    /// Passes a point.
    pub(crate) async fn reach(point: &str) {
        let Some(barrier) = barrier(point) else { return };
        while barrier.exists() {
            sleep(LOOK).await;
        }
    }

    /// Passes a point where nothing can be awaited.
    pub(crate) fn reach_now(point: &str) {
        let Some(barrier) = barrier(point) else { return };
        while barrier.exists() {
            std::thread::sleep(LOOK);
        }
    }

    /// Passes a point in the midst of `future`, unless that ends before.
    pub(crate) async fn during<F: Future>(point: &str, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        tokio::select! {
            output = &mut future => return output,
            () = sleep(MIDST) => reach(point).await,
        }
        future.await
    }

    /// `HEEDWELL_TEST_TIMES`: names and milliseconds, as in `lease=3000 rescue=250`; `slots` and `looks` are plain numbers.
    static TIMES: LazyLock<Vec<(String, u32)>> = LazyLock::new(|| {
        let text = std::env::var("HEEDWELL_TEST_TIMES").unwrap_or_default();
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    });

    fn dial(name: &str) -> Option<u32> {
        TIMES.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    pub(crate) fn dialled(name: &str, time: Duration) -> Duration {
        dial(name).map_or(time, |milliseconds| Duration::from_millis(milliseconds.into()))
    }

    pub(crate) fn counted(name: &str, count: usize) -> usize {
        dial(name).and_then(|other| usize::try_from(other).ok()).unwrap_or(count)
    }

    /// `looks` divides how long it takes until an unknown outcome is looked into, and until a definite no is tried again.
    pub(crate) fn hastened(now: DateTime<Utc>, moment: DateTime<Utc>) -> DateTime<Utc> {
        dial("looks").map_or(moment, |divisor| now + (moment - now) / i32::try_from(divisor).unwrap_or(1).max(1))
    }
}

/// `HEEDWELL_TEST_MUTANT`: the bug that this process has.
#[cfg(feature = "mutants")]
pub(crate) fn is_planted(name: &str) -> bool {
    use std::sync::LazyLock;
    static PLANTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("HEEDWELL_TEST_MUTANT").ok());
    PLANTED.as_deref() == Some(name)
}

/// A turn among few, for whoever took more than can be begun at once.
#[cfg(feature = "mutants")]
pub(crate) async fn turn(name: &str) -> Option<tokio::sync::SemaphorePermit<'static>> {
    static TURNS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(4);
    if is_planted(name) { TURNS.acquire().await.ok() } else { None }
}
