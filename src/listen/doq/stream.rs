//! One stream: read the question, ask it, wait for its answer, write the reply, see the stream ended.
//!
//! The same steps are walked in place as far as nothing has to be waited for, and from there on by a task.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream, WriteError};
use tokio::time::{Instant, timeout, timeout_at};

use super::asker::{Asked, Asker, framed};
use super::closing::{PROTOCOL_ERROR, REQUEST_CANCELLED, UNSPECIFIED_ERROR, Violation};
use super::intake::{Halt, Intake, Stage};
use crate::clock::Moment;
use crate::listen::deadline;
use crate::listen::turn::at_once;
use crate::listen::unread::Kept;
use crate::reply::{Pending, Verdict};

/// One stream.
pub struct Stream {
    send: SendStream,
    recv: RecvStream,
    intake: Intake,
    step: Step,
}

/// What is to be done next.
enum Step {
    /// Read the question.
    Read,
    /// Wait for its answer.
    Wait(Pending),
    /// Write what is left of the reply, for which the client makes no room.
    Write(Bytes, Kept),
    /// See the stream ended by the client.
    End,
}

/// What a question came to.
enum Answered {
    /// A reply.
    Reply(Bytes),
    /// It must wait.
    Later(Pending),
}

/// How a stream ended.
pub enum End {
    /// With a reply, which may still be on its way.
    Replied(SendStream),
    /// Without.
    Abandoned,
    /// Without: its client leaves too much unread.
    Dropped,
    /// By its client.
    Cancelled,
    /// With its connection.
    Broken(Violation),
}

/// How far a stream came without waiting.
pub enum Begun {
    /// To its end.
    Ended(End),
    /// To something that has to be waited for.
    Waits(Stream),
}

impl Stream {
    /// A stream that has just been opened.
    #[must_use]
    pub fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv, intake: Intake::default(), step: Step::Read }
    }

    /// Walks as far as nothing has to be waited for.
    #[must_use]
    pub fn begin(mut self, asker: &Asker, arrival: Moment, replies: &mut BytesMut) -> Begun {
        match self.walk_at_once(asker, arrival, replies) {
            Ok(Stage::Ended) => Begun::Ended(End::Replied(self.send)),
            Ok(Stage::Partial | Stage::Whole) => Begun::Waits(self),
            Err(halt) => Begun::Ended(self.halt(halt)),
        }
    }

    /// Walks the rest of the way.
    pub async fn attend(mut self, asker: Arc<Asker>) -> End {
        match self.walk(&asker).await {
            Ok(()) => End::Replied(self.send),
            Err(halt) => self.halt(halt),
        }
    }

    /// `Ended` when all is done.
    fn walk_at_once(&mut self, asker: &Asker, arrival: Moment, replies: &mut BytesMut) -> Result<Stage, Halt> {
        let stage = self.read_at_once()?;
        if stage == Stage::Partial {
            return Ok(stage);
        }
        match self.ask(asker, arrival, replies)? {
            Answered::Reply(mut reply) => {
                if write_at_once(&mut self.send, &mut reply)? {
                    self.step = Step::End;
                    return Ok(stage);
                }
                let kept = asker.unread.keep(reply.len()).ok_or(Halt::Crowded)?;
                self.step = Step::Write(reply, kept);
            }
            Answered::Later(pending) => self.step = Step::Wait(pending),
        }
        Ok(Stage::Partial)
    }

    async fn walk(&mut self, asker: &Asker) -> Result<(), Halt> {
        let deadline = Instant::now() + deadline::REQUEST;
        loop {
            match std::mem::replace(&mut self.step, Step::End) {
                Step::Read => {
                    self.read(deadline).await?;
                    asker.follow();
                    self.step = match self.ask(asker, asker.moment(), &mut BytesMut::new())? {
                        Answered::Reply(reply) => {
                            let kept = asker.unread.keep(reply.len()).ok_or(Halt::Crowded)?;
                            Step::Write(reply, kept)
                        }
                        Answered::Later(pending) => Step::Wait(pending),
                    };
                }
                Step::Wait(pending) => match self.wait(pending, deadline).await? {
                    Verdict::Sent(reply) => {
                        let reply = framed(&reply);
                        let kept = asker.unread.keep(reply.len()).ok_or(Halt::Crowded)?;
                        self.step = Step::Write(reply, kept);
                    }
                    Verdict::Dropped(_) => return Err(Halt::Silent),
                },
                Step::Write(reply, _kept) => self.write(reply).await?,
                Step::End => {
                    return match see_ended(&mut self.recv, &mut self.intake, deadline).await {
                        // Too late to cancel: the reply is out, with its end (RFC 9250 4.3.1).
                        Err(Halt::Cancelled) => Ok(()),
                        other => other,
                    };
                }
            }
        }
    }

    fn read_at_once(&mut self) -> Result<Stage, Halt> {
        let mut pieces = no_pieces();
        loop {
            match at_once(self.recv.read_chunks(&mut pieces)) {
                Some(read) => {
                    if self.intake.add(&read, &mut pieces)? == Stage::Ended {
                        return Ok(Stage::Ended);
                    }
                }
                None => return self.intake.stage(),
            }
        }
    }

    async fn read(&mut self, deadline: Instant) -> Result<(), Halt> {
        let mut pieces = no_pieces();
        while self.intake.stage()? == Stage::Partial {
            let read = timeout_at(deadline, self.recv.read_chunks(&mut pieces)).await.map_err(|_| Halt::Late)?;
            self.intake.add(&read, &mut pieces)?;
        }
        Ok(())
    }

    fn ask(&self, asker: &Asker, arrival: Moment, replies: &mut BytesMut) -> Result<Answered, Halt> {
        match asker.ask(self.intake.message(), arrival, replies).map_err(Halt::Broken)? {
            Asked::Reply(reply) => Ok(Answered::Reply(reply)),
            Asked::Silence => Err(Halt::Silent),
            Asked::Later(pending) => Ok(Answered::Later(pending)),
        }
    }

    /// Waits for the answer, unless the client gives up on it or breaks the protocol meanwhile.
    async fn wait(&mut self, mut pending: Pending, deadline: Instant) -> Result<Verdict, Halt> {
        let mut stopped = pin!(self.send.stopped());
        let mut ended = self.intake.stage()? == Stage::Ended;
        loop {
            tokio::select! {
                biased;
                verdict = &mut pending => return Ok(verdict),
                stop = &mut stopped => return Err(stop.map_or(Halt::Lost, |_| Halt::Cancelled)),
                end = see_ended(&mut self.recv, &mut self.intake, deadline), if !ended => {
                    end?;
                    ended = true;
                }
            }
        }
    }

    async fn write(&mut self, reply: Bytes) -> Result<(), Halt> {
        match timeout(deadline::WRITE, self.send.write_chunk(reply)).await {
            Ok(written) => written.map_err(|error| unwritten(&error))?,
            Err(_) => return Err(Halt::Late),
        }
        finish(&mut self.send);
        Ok(())
    }

    fn halt(mut self, halt: Halt) -> End {
        let (code, end) = match halt {
            Halt::Lost => return End::Abandoned,
            Halt::Broken(violation) => (PROTOCOL_ERROR, End::Broken(violation)),
            Halt::Cancelled => (REQUEST_CANCELLED, End::Cancelled),
            Halt::Late | Halt::Silent => (UNSPECIFIED_ERROR, End::Abandoned),
            Halt::Crowded => (UNSPECIFIED_ERROR, End::Dropped),
        };
        // Either may be closed already, which is as good.
        let _ = self.send.reset(code);
        let _ = self.recv.stop(code);
        end
    }
}

/// Reads on to the end of the stream; until `deadline` the client may leave it open (DOQ-10).
async fn see_ended(recv: &mut RecvStream, intake: &mut Intake, deadline: Instant) -> Result<(), Halt> {
    let mut pieces = no_pieces();
    while intake.stage()? != Stage::Ended {
        let read = timeout_at(deadline, recv.read_chunks(&mut pieces)).await;
        intake.add(&read.map_err(|_| Halt::Broken(Violation::Dangling))?, &mut pieces)?;
    }
    Ok(())
}

/// Writes `reply` and the end of the stream as far as there is room; is that all? If not, `reply` is what is left.
fn write_at_once(send: &mut SendStream, reply: &mut Bytes) -> Result<bool, Halt> {
    while !reply.is_empty() {
        match at_once(send.write_chunks(std::slice::from_mut(reply))) {
            Some(written) => _ = written.map_err(|error| unwritten(&error))?,
            None => return Ok(false),
        }
    }
    finish(send);
    Ok(true)
}

fn finish(send: &mut SendStream) {
    // A stream that is closed already needs no end.
    let _ = send.finish();
}

const fn unwritten(error: &WriteError) -> Halt {
    if matches!(error, WriteError::Stopped(_)) { Halt::Cancelled } else { Halt::Lost }
}

/// Room for what one read may bring: with more than one piece asked for, data and end of the stream come at once.
const fn no_pieces() -> [Bytes; 4] {
    [const { Bytes::new() }; 4]
}
