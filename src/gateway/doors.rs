//! The doors over time: which stay, which come and which go when the configuration changes.
//!
//! A door has its id for as long as anything of it is left: access lists go by ids, and connections of a door that is being closed
//! still ask. Only then is the id given to another.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Weak};

use crate::listen::bind::{BoundDoor, Inherited};
use crate::listen::{Door, DoorKind};
use crate::peer::DoorId;
use crate::shutdown::{Drain, Stop};
use crate::worker::Tenure;

/// A door that is open.
#[derive(Debug)]
pub struct Open {
    /// Its id.
    pub id: DoorId,
    /// As configured: the port may be 0.
    pub door: Door,
    /// As bound.
    pub address: SocketAddr,
    stop: Stop,
    drain: Drain,
    alive: Arc<()>,
    /// Duplicates, for whoever takes over.
    kept: Option<Inherited>,
}

/// All doors.
#[derive(Debug, Default)]
pub struct Doors {
    open: Vec<Open>,
    leaving: Vec<(DoorId, Weak<()>)>,
}

/// What has to happen for other doors to be open.
#[derive(Debug, Default)]
pub struct Moves {
    /// The ids of the doors wanted, in their order.
    pub ids: Vec<DoorId>,
    /// Those that are not open yet.
    pub added: Vec<(DoorId, Door)>,
    /// Those that are no longer wanted.
    pub removed: Vec<DoorId>,
}

/// Doors that cannot be changed while others stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorFault {
    /// Two QUIC doors at one address are served by one socket.
    #[error(
        "{address} (UDP) is shared by DoQ and DoH: one of them cannot come or go without the other while the gateway runs; \
         restart it, or give them different ports"
    )]
    Shared {
        /// The address.
        address: SocketAddr,
    },
    /// As many doors as there are ids.
    #[error("too many doors are open or being closed")]
    TooMany,
}

impl Open {
    /// A door of this id that is open from now on.
    #[must_use]
    pub fn new(id: DoorId, door: Door, address: SocketAddr) -> Self {
        let (stop, drain) = Stop::new();
        Self { id, door, address, stop, drain, alive: Arc::default(), kept: None }
    }

    /// Keeps duplicates of the sockets that are among `bound`.
    ///
    /// # Errors
    /// No more open files.
    pub fn keep(&mut self, bound: &[BoundDoor]) -> std::io::Result<()> {
        let Some(bound) = bound.iter().find(|bound| bound.id == self.id) else { return Ok(()) };
        self.kept = Some(duplicates(self.door, self.address, &bound.tcp, &bound.udp)?);
        Ok(())
    }

    /// How long its loops are kept.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        Tenure { drain: self.drain.clone(), alive: Arc::clone(&self.alive) }
    }
}

impl Doors {
    /// The doors opened at start, of those `configured`.
    #[must_use]
    pub fn opened(configured: &[Door], bound: &[BoundDoor]) -> Self {
        let mut doors = Self::default();
        for (id, &door) in (0..u16::MAX).map(DoorId).zip(configured) {
            doors.open.extend(opened(id, door, bound));
        }
        doors
    }

    /// Keeps duplicates of all sockets, for whoever takes over.
    ///
    /// # Errors
    /// No more open files.
    pub fn keep(&mut self, bound: &[BoundDoor]) -> std::io::Result<()> {
        self.open.iter_mut().try_for_each(|open| open.keep(bound))
    }

    /// What is kept, once more.
    ///
    /// # Errors
    /// No more open files.
    pub fn kept(&self) -> std::io::Result<Vec<Inherited>> {
        let kept = self.open.iter().filter_map(|open| open.kept.as_ref());
        kept.map(|kept| duplicates(kept.door, kept.address, &kept.tcp, &kept.udp)).collect()
    }

    /// Closes what is kept.
    pub fn let_go(&mut self) {
        self.open.iter_mut().for_each(|open| open.kept = None);
    }

    /// Those open now.
    pub fn iter(&self) -> impl Iterator<Item = &Open> {
        self.open.iter()
    }

    /// What must be done so that `wanted` are open. A door is the same if its kind and its configured address are.
    ///
    /// # Errors
    /// What cannot be done.
    pub fn moves(&self, wanted: &[Door]) -> Result<Moves, DoorFault> {
        let mut moves = Moves::default();
        let mut stay: Vec<&Open> = Vec::new();
        let mut taken: Vec<DoorId> = self.open.iter().map(|open| open.id).collect();
        taken.extend(self.leaving.iter().filter(|(_, alive)| alive.strong_count() > 0).map(|(id, _)| *id));
        for &door in wanted {
            let is_it = |open: &&Open| open.door == door && !stay.iter().any(|other| other.id == open.id);
            let id = if let Some(open) = self.open.iter().find(is_it) {
                stay.push(open);
                open.id
            } else {
                let free = (0..u16::MAX).map(DoorId).find(|id| !taken.contains(id)).ok_or(DoorFault::TooMany)?;
                taken.push(free);
                moves.added.push((free, door));
                free
            };
            moves.ids.push(id);
        }
        let is_staying = |open: &&Open| stay.iter().any(|other| other.id == open.id);
        let (_, gone): (Vec<&Open>, Vec<&Open>) = self.open.iter().partition(is_staying);
        let changing = moves.added.iter().map(|(_, door)| door).chain(gone.iter().map(|open| &open.door));
        for door in changing {
            if let Some(other) = stay.iter().find(|open| shares_socket(door, &open.door)) {
                return Err(DoorFault::Shared { address: other.address });
            }
        }
        moves.removed = gone.iter().map(|open| open.id).collect();
        Ok(moves)
    }

    /// The doors as they will be, by id, kind and address, once `added` are open and `removed` are not.
    #[must_use]
    pub fn after(&self, moves: &Moves, added: &[Open]) -> Vec<(DoorId, DoorKind, SocketAddr)> {
        let stay = self.open.iter().filter(|open| !moves.removed.contains(&open.id));
        stay.chain(added).map(|open| (open.id, open.door.kind, open.address)).collect()
    }

    /// Takes `added` in and closes what `moves` removes: their connections finish what is in flight.
    pub fn apply(&mut self, moves: &Moves, added: Vec<Open>) {
        self.leaving.retain(|(_, alive)| alive.strong_count() > 0);
        for gone in self.open.extract_if(.., |open| moves.removed.contains(&open.id)) {
            gone.stop.begin();
            self.leaving.push((gone.id, Arc::downgrade(&gone.alive)));
        }
        self.open.extend(added);
    }

    /// `lists`, one for each door wanted, by id; doors that are being closed keep what they have in `former`.
    #[must_use]
    pub fn by_id<T: Clone + Default>(moves: &Moves, lists: Vec<T>, former: &[T]) -> Vec<T> {
        let mut by_id: Vec<T> = former.to_vec();
        for (id, list) in moves.ids.iter().zip(lists) {
            let place = usize::from(id.0);
            if by_id.len() <= place {
                by_id.resize(place + 1, T::default());
            }
            if let Some(cell) = by_id.get_mut(place) {
                *cell = list;
            }
        }
        by_id
    }
}

/// `door` with its id, if it is among `bound`, alone or on the socket of another.
#[must_use]
pub fn opened(id: DoorId, door: Door, bound: &[BoundDoor]) -> Option<Open> {
    let its = |bound: &&BoundDoor| bound.id == id;
    bound.iter().find(its).map(|bound| Open::new(id, door, bound.address))
}

fn duplicates(door: Door, address: SocketAddr, tcp: &[TcpListener], udp: &[UdpSocket]) -> std::io::Result<Inherited> {
    let tcp = tcp.iter().map(TcpListener::try_clone).collect::<Result<_, _>>()?;
    let udp = udp.iter().map(UdpSocket::try_clone).collect::<Result<_, _>>()?;
    Ok(Inherited { door, address, tcp, udp })
}

fn shares_socket(one: &Door, other: &Door) -> bool {
    let is_quic = |door: &Door| matches!(door.kind, DoorKind::Doh | DoorKind::Doq);
    one.address == other.address && one.address.port() != 0 && is_quic(one) && is_quic(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(kind: DoorKind, port: u16) -> Door {
        Door { kind, address: ([127, 0, 0, 1], port).into() }
    }

    /// Doors that are open without a socket.
    fn doors(open: &[Door]) -> Doors {
        let ids = (0..).map(DoorId);
        let open = ids.zip(open).map(|(id, &door)| Open::new(id, door, door.address)).collect();
        Doors { open, leaving: Vec::new() }
    }

    #[test]
    fn kept_doors_keep_their_ids_and_an_id_is_free_once_nothing_of_its_door_is_left() {
        let [dns, dot, doh] = [door(DoorKind::Dns, 53), door(DoorKind::Dot, 853), door(DoorKind::Doh, 443)];
        let mut doors = doors(&[dns, dot]);
        let tenure = doors.iter().nth(1).unwrap().tenure();
        let moves = doors.moves(&[doh, dns]).unwrap();
        assert_eq!((moves.ids.as_slice(), moves.removed.as_slice()), (&[DoorId(2), DoorId(0)][..], &[DoorId(1)][..]));
        let lists = Doors::by_id(&moves, vec!["doh", "dns"], &["old dns", "old dot"]);
        assert_eq!(lists, ["dns", "old dot", "doh"], "a door that is closing keeps its list");
        doors.apply(&moves, vec![Open::new(DoorId(2), doh, doh.address)]);
        assert!(tenure.drain.is_wanted());
        assert_eq!(doors.moves(&[dns, doh, dot]).unwrap().added, [(DoorId(3), dot)]);
        drop(tenure);
        assert_eq!(doors.moves(&[dns, doh, dot]).unwrap().added, [(DoorId(1), dot)]);
    }

    #[test]
    fn two_doors_of_the_same_words_are_two_and_doors_that_share_a_socket_stay_together() {
        let any = door(DoorKind::Dot, 0);
        let moves = doors(&[any]).moves(&[any, any]).unwrap();
        assert_eq!((moves.ids.len(), moves.added.len(), moves.removed.len()), (2, 1, 0));
        let [doq, doh] = [door(DoorKind::Doq, 443), door(DoorKind::Doh, 443)];
        let shared = DoorFault::Shared { address: doq.address };
        assert_eq!(doors(&[doq]).moves(&[doq, doh]).unwrap_err(), shared);
        assert_eq!(doors(&[doq, doh]).moves(&[doh]).unwrap_err(), shared);
        assert_eq!(doors(&[doq, doh]).moves(&[]).unwrap().removed.len(), 2);
    }
}
