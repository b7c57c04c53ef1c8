//! The CPU time that a thread has spent: what is compared where cores are shared.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of this thread's CPU time that each of `count` things took which `work` does.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn nanoseconds(count: u64, work: impl FnOnce()) -> f64 {
    let before = spent();
    work();
    (spent() - before) as f64 / count as f64
}

fn spent() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
