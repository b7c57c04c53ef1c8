//! The word to stop, heard by everything that holds a connection.
//!
//! Two steps: `begin` asks loops to stop accepting, tell their peers and finish what is in flight; what is left when the grace
//! is over ends with its runtime. Before that, where another process takes the sockets over, `hand_over` has loops take in nothing
//! more, while their connections are served on.

use tokio::sync::watch;

/// Says when to stop.
#[derive(Debug)]
pub struct Stop(watch::Sender<Word>);

/// Hears when to stop. Cheap to clone; one a connection.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Word>);

/// What has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Nothing.
    Serve,
    /// Whoever comes is another's.
    HandOver,
    /// Finish.
    Stop,
}

/// Those who serve each other and therefore end together: a question on one worker may wait for a connection on another's thread.
#[derive(Clone, Debug)]
pub struct Company {
    present: watch::Sender<()>,
    everyone: watch::Receiver<()>,
}

impl Company {
    /// Nobody yet; each member is a clone.
    #[must_use]
    pub fn new() -> Self {
        let (present, everyone) = watch::channel(());
        Self { present, everyone }
    }

    /// Has nothing left to do, and waits until nobody has.
    pub async fn leave(self) {
        let Self { present, mut everyone } = self;
        drop(present);
        // Nothing is ever sent: this ends with an error once the last sender is gone, also that of a member that died.
        let _ = everyone.changed().await;
    }
}

impl Default for Company {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// A pair that has not been stopped.
    #[must_use]
    pub fn new() -> (Self, Drain) {
        let (stop, drain) = watch::channel(Word::Serve);
        (Self(stop), Drain(drain))
    }

    /// Tells every [`Drain`] to finish.
    pub fn begin(&self) {
        self.0.send_replace(Word::Stop);
    }

    /// Tells every [`Drain`] that another process reads and accepts from now on. Nothing, once it is to finish.
    pub fn hand_over(&self) {
        self.0.send_if_modified(|word| {
            let is_news = *word == Word::Serve;
            if is_news {
                *word = Word::HandOver;
            }
            is_news
        });
    }
}

impl Drain {
    /// Has the word been given?
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        *self.0.borrow() == Word::Stop
    }

    /// Waits for the word; also returns when whoever could say it is gone. Cancel-safe.
    pub async fn wanted(&mut self) {
        // An error means that the sender is gone, and with it the gateway: that too is the word to stop.
        let _ = self.0.wait_for(|&word| word == Word::Stop).await;
    }

    /// Waits for either word: nothing more is to be taken in. Cancel-safe, and returns like [`Self::wanted`].
    pub async fn leaving(&mut self) {
        let _ = self.0.wait_for(|&word| word != Word::Serve).await;
    }
}
