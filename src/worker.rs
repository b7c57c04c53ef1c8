//! One worker: a thread with a runtime of its own, its own sockets on every address, its own counters.
//!
//! A worker starts every door's loop and keeps it alive: a loop that dies is started again on the same socket. It ends when every
//! loop of every worker has drained, or when the grace after the word to stop is over. Doors may come and go meanwhile, by
//! [`Order`]s of the control thread.

use std::future::Future;
use std::net::{TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use crate::listen::quic::mailboxes::Row;
use crate::listen::quic::{self, QuicDoors};
use crate::listen::{Context, accept, datagram};
use crate::peer::DoorId;
use crate::shutdown::{Company, Drain, Stop};
use crate::telemetry::Counters;

/// One socket and what is spoken on it.
pub enum Post {
    /// Plain DNS datagrams.
    Datagram(UdpSocket, DoorId),
    /// Connections of any stream door.
    Stream(TcpListener, DoorId, accept::Service),
    /// QUIC: DoQ, DoH3 or both.
    Quic(UdpSocket, Arc<Row>, QuicDoors, quic::Crypto),
}

/// For how long a door is kept.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// The word that the door is to be closed, whatever becomes of the others.
    pub drain: Drain,
    /// A clone is held as long as anything of the door is left.
    pub alive: Arc<()>,
}

/// What a worker is told while it serves.
pub enum Order {
    /// Say that you are there.
    Answer(SyncSender<()>),
    /// Serve this too.
    Open(Post, Tenure),
}

/// What one worker serves.
pub struct Station {
    /// Its number.
    pub index: u8,
    /// What its front doors share.
    pub context: Context,
    /// Its sockets.
    pub posts: Vec<(Post, Tenure)>,
    /// Where it is told of others.
    pub orders: mpsc::Receiver<Order>,
    /// How long questions in flight may take after the word to stop.
    pub grace: Duration,
    /// All workers.
    pub company: Company,
}

/// Starts `station` on a thread that drives `runtime`.
///
/// # Errors
/// Where the system gives no thread.
pub fn start(runtime: Runtime, station: Station) -> std::io::Result<thread::JoinHandle<()>> {
    let name = format!("worker-{}", station.index);
    thread::Builder::new().name(name).spawn(move || {
        // Datagram loops hold buffers that may not leave their thread.
        LocalSet::new().block_on(&runtime, serve(station));
        runtime.shutdown_background();
    })
}

async fn serve(station: Station) {
    let Station { index, context, posts, mut orders, grace, company } = station;
    let [mut drain, mut word] = [context.drain.clone(), context.drain.clone()];
    tokio::task::spawn_local(crate::service::beat(Arc::clone(&context.counters)));
    let mut loops = JoinSet::new();
    for (post, tenure) in posts {
        loops.spawn_local(keep(post, tenure, index, context.clone(), grace));
    }
    let ended = async {
        loop {
            tokio::select! {
                biased;
                () = word.leaving() => break,
                Some(order) = orders.recv() => match order {
                    // Who asked may have given up.
                    Order::Answer(here) => _ = here.try_send(()),
                    Order::Open(post, tenure) => _ = loops.spawn_local(keep(post, tenure, index, context.clone(), grace)),
                },
                Some(_) = loops.join_next() => {}
            }
        }
        // What is still on its way in will not be served.
        drop(orders);
        while loops.join_next().await.is_some() {}
        // This thread may still fly questions, or hold upstream connections, that others wait for.
        company.leave().await;
    };
    let late = async {
        drain.wanted().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = ended => {}
        () = late => if !loops.is_empty() {
            tracing::warn!(worker = index, "questions were still in flight when the grace was over");
        }
    }
}

/// Keeps the loop of `post` alive until the word to stop, or the word that its door is to be closed.
async fn keep(post: Post, tenure: Tenure, index: u8, context: Context, grace: Duration) {
    let Tenure { drain: mut own, alive } = tenure;
    let mut all = context.drain.clone();
    let (stop, drain) = Stop::new();
    let context = context.draining_by(drain.clone());
    let counters = Arc::clone(&context.counters);
    let serving = revive(move || run(&post, index, &context), drain, &counters);
    let word = async {
        tokio::select! {
            () = async {
                all.leaving().await;
                stop.hand_over();
                all.wanted().await;
            } => {
                stop.begin();
                // The worker itself counts the time then.
                std::future::pending::<()>().await;
            }
            () = own.wanted() => {
                stop.begin();
                tokio::time::sleep(grace).await;
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = word => tracing::warn!(worker = index, "connections of a closed door were still open when the grace was over"),
    }
    drop(alive);
}

/// Runs the loop that `start` makes, and starts another on the same socket when it panics, ends by itself, or could not be started
/// for want of something (open files): only the word to stop closes a front door.
async fn revive(start: impl Fn() -> Option<Loop>, mut drain: Drain, counters: &Counters) {
    loop {
        if let Some(run) = start() {
            // Whoever gives this up ends the loop.
            let mut running = JoinSet::new();
            running.spawn_local(run);
            let ended = tokio::select! {
                biased;
                ended = running.join_next() => ended,
                () = drain.leaving() => {
                    // As long as this duplicate is open, the system takes connections for a listener that accepts no more.
                    drop(start);
                    let _ = running.join_next().await;
                    return;
                }
            };
            if ended.is_some_and(|ended| ended.is_err_and(|error| error.is_panic())) {
                counters.panics.add_one();
                tracing::error!("a front door's loop panicked and is started again");
                continue;
            }
        }
        tokio::select! {
            biased;
            () = drain.leaving() => return,
            () = tokio::time::sleep(PAUSE) => tracing::error!("a front door's loop has ended and is started again"),
        }
    }
}

/// The wait before a loop that has ended by itself is started again.
const PAUSE: Duration = Duration::from_secs(1);

type Loop = Pin<Box<dyn Future<Output = ()>>>;

/// The loop of `post` on a duplicate of its socket, so that the socket outlives the loop.
fn run(post: &Post, index: u8, context: &Context) -> Option<Loop> {
    let context = context.clone();
    let started = match post {
        Post::Datagram(socket, door) => {
            let door = *door;
            socket.try_clone().map(|socket| Box::pin(datagram::serve(socket, door, context)) as Loop)
        }
        Post::Stream(listener, door, service) => {
            let (door, service) = (*door, service.clone());
            listener.try_clone().map(|listener| Box::pin(accept::serve(listener, door, service, context)) as Loop)
        }
        Post::Quic(socket, row, doors, crypto) => {
            let (row, doors, crypto) = (Arc::clone(row), *doors, crypto.clone());
            let place = socket.try_clone().map(|socket| quic::Place { socket, index, row });
            place.map(|place| Box::pin(quic::serve(place, doors, crypto, context)) as Loop)
        }
    };
    started.inspect_err(|error| tracing::error!(%error, "a front door's socket could not be duplicated")).ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::shutdown::Stop;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ends_or_cannot_start_is_started_again_until_the_word_to_stop() {
        let (stop, drain) = Stop::new();
        let stop = Rc::new(stop);
        let starts = Cell::new(0);
        let start = || {
            starts.set(starts.get() + 1);
            match starts.get() {
                // As with no file descriptor left.
                1 => None,
                // As a QUIC endpoint whose socket failed.
                2 => Some(Box::pin(async {}) as Loop),
                3 => {
                    let fall: fn() = || panic!("as it may");
                    Some(Box::pin(async move { fall() }) as Loop)
                }
                _ => {
                    let (stop, mut drain) = (Rc::clone(&stop), drain.clone());
                    Some(Box::pin(async move {
                        stop.begin();
                        drain.wanted().await;
                    }) as Loop)
                }
            }
        };
        let counters = Counters::default();
        LocalSet::new().run_until(revive(start, drain.clone(), &counters)).await;
        assert_eq!((starts.get(), counters.panics.value()), (4, 1));
    }
}
