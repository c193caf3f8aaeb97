//! How much one input may cost: 50 ms of the processor's time and 16 MiB of memory. A build without optimisation is allowed ten
//! times the time, for it takes that long.

use std::{env, fs, sync::OnceLock, time::Duration};

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Most memory beyond what was in use before.
const MEMORY_LIMIT: usize = 16 * 1024 * 1024;
/// An input that took too long is tried again, since the first time fills caches and tables: it counts if it always does.
const TRIES: usize = 3;

/// What one input may cost.
#[derive(Debug)]
pub struct Limits {
    time: Duration,
}

impl Limits {
    /// `HEEDWELL_FUZZ_MILLISECONDS`, for optimised builds; else what is right for one that is not.
    #[must_use]
    pub fn of_process() -> Self {
        let set = env::var("HEEDWELL_FUZZ_MILLISECONDS").ok().and_then(|text| text.parse().ok());
        Self { time: Duration::from_millis(set.unwrap_or(500)) }
    }

    /// Does it, and looks at what that took.
    ///
    /// # Panics
    /// When it took too much.
    pub fn hold(&self, name: &str, take: impl Fn()) {
        let mut least = Duration::MAX;
        for _ in 0..TRIES {
            MEMORY.reset_peak_usage();
            let (memory, time) = (MEMORY.current_usage(), processor_time());
            take();
            least = least.min(processor_time().saturating_sub(time));
            let more = MEMORY.peak_usage().saturating_sub(memory);
            assert!(more <= MEMORY_LIMIT, "{name}: an input took {more} bytes of memory");
            if least <= self.time {
                return;
            }
        }
        panic!("{name}: an input took {least:?} of the processor's time");
    }
}

/// What the processor has given all threads of this process (proc_pid_schedstat).
fn processor_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap().filter_map(|thread| {
        let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(threads.sum())
}

/// What is planted to see that a run would find it: `panic`, `time` or `memory`.
fn planted() -> &'static str {
    static PLANTED: OnceLock<String> = OnceLock::new();
    PLANTED.get_or_init(|| env::var("HEEDWELL_FUZZ_PLANT").unwrap_or_default())
}

/// Called by each target where an input has come as far as it can: there lies what was planted. A run that finds nothing there would
/// not have come there.
pub(crate) fn reached() {
    match planted() {
        "panic" => panic!("the planted panic"),
        "time" => {
            let begun = processor_time();
            // A thread that ends meanwhile takes its share along.
            while processor_time().saturating_sub(begun) < Duration::from_secs(1) {}
        }
        "memory" => drop(std::hint::black_box(vec![1_u8; MEMORY_LIMIT + 1])),
        _ => {}
    }
}
