//! Several ways to one goal, started one after the other, the first to get there taken (RFC 8305, Happy Eyeballs).
//!
//! Addresses of a server, and the servers that find addresses, are tried like this: one that is silent costs a moment, not the
//! whole time there is.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

/// What one way has for itself before the next is started (RFC 8305 5).
pub const HEAD_START: Duration = Duration::from_millis(250);

/// How many addresses are tried.
pub const MOST: usize = 6;

/// Starts `reach` for each of `candidates`, the next after [`HEAD_START`] or at once when one fails. The first to succeed wins, the
/// others are dropped.
///
/// # Errors
/// Why each failed, in the order of their failures; nothing where there were no candidates.
pub async fn race<C, T, E, F, R>(candidates: Vec<C>, reach: F) -> Result<T, Vec<E>>
where
    F: Fn(C) -> R,
    R: Future<Output = Result<T, E>>,
{
    let mut running = Vec::new();
    let mut failures = Vec::new();
    for candidate in candidates {
        running.push(Box::pin(reach(candidate)));
        match timeout(HEAD_START, first(&mut running)).await {
            Ok(Ok(reached)) => return Ok(reached),
            Ok(Err(failure)) => failures.push(failure),
            Err(_) => {}
        }
    }
    while !running.is_empty() {
        match first(&mut running).await {
            Ok(reached) => return Ok(reached),
            Err(failure) => failures.push(failure),
        }
    }
    Err(failures)
}

/// Waits for whichever of `running` ends first, and takes it out.
async fn first<R: Future>(running: &mut Vec<Pin<Box<R>>>) -> R::Output {
    poll_fn(|context| {
        for index in 0..running.len() {
            let Some(one) = running.get_mut(index) else { break };
            if let Poll::Ready(output) = one.as_mut().poll(context) {
                drop(running.swap_remove(index));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// `addresses` in the order to try them: the families in turn, IPv6 first or that of `good`, which worked last and leads.
#[must_use]
pub fn order(addresses: &[SocketAddr], good: Option<SocketAddr>) -> Vec<SocketAddr> {
    let good = good.filter(|good| addresses.contains(good));
    let v4_first = good.is_some_and(|good| good.is_ipv4());
    let rest = addresses.iter().copied().filter(|address| Some(*address) != good);
    let (leading, other): (Vec<_>, Vec<_>) = rest.partition(|address| address.is_ipv4() == v4_first);
    // After the good one it is the other family's turn.
    let (one, two) = if good.is_some() { (other, leading) } else { (leading, other) };
    let (mut one, mut two) = (one.into_iter(), two.into_iter());
    let mut ordered: Vec<SocketAddr> = good.into_iter().collect();
    loop {
        let pair = [one.next(), two.next()];
        if pair == [None, None] {
            break;
        }
        ordered.extend(pair.into_iter().flatten());
    }
    ordered.truncate(MOST);
    ordered
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_way_starts_after_a_moment_or_at_once_after_a_failure() {
        let start = Instant::now();
        let reached = race(vec![0_u64, 1, 2], |way| async move {
            match way {
                0 => std::future::pending().await,
                1 => Err("closed"),
                way => Ok(way),
            }
        })
        .await;
        assert_eq!(reached, Ok(2));
        assert_eq!(start.elapsed(), HEAD_START);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_way_may_still_win_over_a_slower_one() {
        let reached = race(vec![400_u64, 300], |millis| async move {
            sleep(Duration::from_millis(millis)).await;
            Ok::<_, ()>(millis)
        })
        .await;
        assert_eq!(reached, Ok(400));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_each_says_why() {
        assert_eq!(race(vec![1, 2], |way| async move { Err::<(), _>(way) }).await, Err(vec![1, 2]));
        assert_eq!(race(Vec::<u8>::new(), |way| async move { Err::<(), _>(way) }).await, Err(vec![]));
    }

    #[test]
    fn families_take_turns_ipv6_first_unless_the_other_worked_last() {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = all(&["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53", "[2001:db8::1]:53", "[2001:db8::2]:53"]);
        let expected = all(&["[2001:db8::1]:53", "192.0.2.1:53", "[2001:db8::2]:53", "192.0.2.2:53", "192.0.2.3:53"]);
        assert_eq!(order(&mixed, None), expected);
        let expected = all(&["192.0.2.2:53", "[2001:db8::1]:53", "192.0.2.1:53", "[2001:db8::2]:53", "192.0.2.3:53"]);
        assert_eq!(order(&mixed, mixed.get(1).copied()), expected);
        let gone = "192.0.2.99:53".parse().ok();
        assert_eq!(order(&mixed, gone), order(&mixed, None), "an address that it no longer has leads nothing");
    }
}
