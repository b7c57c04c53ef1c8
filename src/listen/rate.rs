//! How often something happened of late.

use tokio::time::{Duration, Instant};

/// Counts what happens within a second of its first.
#[derive(Debug, Default)]
pub struct Rate {
    since: Option<Instant>,
    count: u32,
}

impl Rate {
    /// Counts once, and answers how often that was within the second.
    pub fn count(&mut self) -> u32 {
        let now = Instant::now();
        if self.since.is_none_or(|since| now - since >= Duration::from_secs(1)) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_a_second_old_no_longer_counts() {
        let mut rate = Rate::default();
        assert_eq!((rate.count(), rate.count()), (1, 2));
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(rate.count(), 3);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(rate.count(), 1);
    }
}
