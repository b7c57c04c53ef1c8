//! Has the kernel give each datagram to the worker that its connection id names, whatever address it comes from.
//!
//! Workers share a port by `SO_REUSEPORT`, and the kernel chooses among their sockets by a hash of both addresses: a client whose
//! NAT gives it another port lands at another worker. A classic BPF filter on the group takes the mask off the id (`ids`) and
//! returns the worker's index, which is the order in which the sockets were bound. For first datagrams, whose id the client has
//! chosen, it mostly returns what is no index, and then the kernel hashes as before. Where there are no filters, `sorting` alone
//! gives datagrams to their workers.

use std::net::UdpSocket;
use std::sync::Once;

use super::ids::{IdKey, LENGTH, LONG_HEADER, MaskKey, NONCE, SHIFTS};

/// Steers the datagrams of `sockets`, which share one address and are in the order of their workers, by ids made with `key`.
pub fn steer(sockets: &[UdpSocket], key: &IdKey) {
    static TOLD: Once = Once::new();
    let (Some(socket), 2..) = (sockets.first(), sockets.len()) else { return };
    if let Err(error) = attach(socket, &program(key.mask_key())) {
        TOLD.call_once(|| {
            tracing::info!(%error, "the kernel does not steer QUIC by connection id: workers pass on what is another's");
        });
    }
}

#[cfg(target_os = "linux")]
fn attach(socket: &UdpSocket, program: &[Instruction]) -> std::io::Result<()> {
    use nix::libc::{sock_filter, sock_fprog};
    use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

    let plain =
        |&Instruction { code, yes, no, operand }: &Instruction| sock_filter { code, jt: yes, jf: no, k: operand };
    let mut filter: Vec<_> = program.iter().map(plain).collect();
    let len = filter.len().try_into().map_err(std::io::Error::other)?;
    setsockopt(socket, AttachReusePortCbpf, &sock_fprog { len, filter: filter.as_mut_ptr() })?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn attach(_socket: &UdpSocket, _program: &[Instruction]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// One step of a classic BPF program: what is done, how many steps to leave out after a comparison that holds or does not, and
/// the number it is done with.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    operand: u32,
}

/// The program: accumulator A, index X, two cells. Offsets count from the first octet after the UDP header.
fn program(key: MaskKey) -> [Instruction; 37] {
    let [first, second, third] = key.factors;
    [
        step(LOAD_LENGTH, 0),
        compare(AT_LEAST, SHORT_ID + WHOLE_ID, 0, 34),
        step(LOAD_OCTET, 0),
        compare(HAS_BITS, u32::from(LONG_HEADER), 2, 0),
        step(SET_INDEX, SHORT_ID),
        step(SKIP, 5),
        step(LOAD_OCTET, LONG_ID - 1),
        compare(EQUALS, WHOLE_ID, 0, 28),
        step(LOAD_LENGTH, 0),
        compare(AT_LEAST, LONG_ID + WHOLE_ID, 0, 26),
        step(SET_INDEX, LONG_ID),
        // The id starts at X. Both cells are filled first, for X is needed to mix.
        step(LOAD_OCTET_AT_INDEX, 4),
        step(STORE, LAST_OF_NONCE),
        step(LOAD_PAIR_AT_INDEX, AFTER_NONCE),
        step(STORE, OWNER),
        step(LOAD_WORD_AT_INDEX, 0),
        step(XOR, key.start),
        step(MULTIPLY, first),
        step(A_TO_INDEX, 0),
        step(SHIFT_RIGHT, SHIFTS.0),
        step(XOR_INDEX, 0),
        step(CELL_TO_INDEX, LAST_OF_NONCE),
        step(ADD_INDEX, 0),
        step(MULTIPLY, second),
        step(A_TO_INDEX, 0),
        step(SHIFT_RIGHT, SHIFTS.1),
        step(XOR_INDEX, 0),
        step(MULTIPLY, third),
        step(A_TO_INDEX, 0),
        step(SHIFT_RIGHT, SHIFTS.2),
        step(XOR_INDEX, 0),
        step(CELL_TO_INDEX, OWNER),
        step(XOR_INDEX, 0),
        // Index and generation are left, in this order.
        step(AND, 0xffff),
        step(SHIFT_RIGHT, 8),
        step(RETURN_A, 0),
        step(RETURN, NOBODY),
    ]
}

const fn step(code: u16, operand: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, operand }
}

const fn compare(code: u16, operand: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code, yes, no, operand }
}

/// Where ids are.
const SHORT_ID: u32 = 1;
const LONG_ID: u32 = 6;
#[expect(clippy::cast_possible_truncation, reason = "ten")]
const WHOLE_ID: u32 = LENGTH as u32;
#[expect(clippy::cast_possible_truncation, reason = "five")]
const AFTER_NONCE: u32 = NONCE as u32;

/// Cells.
const LAST_OF_NONCE: u32 = 0;
const OWNER: u32 = 1;

/// More than any group has sockets.
const NOBODY: u32 = u32::MAX;

/// Codes, as `linux/bpf_common.h` composes them: class, size or operation, mode or source.
const LOAD_LENGTH: u16 = 0x80;
const LOAD_OCTET: u16 = 0x30;
const LOAD_OCTET_AT_INDEX: u16 = 0x50;
const LOAD_PAIR_AT_INDEX: u16 = 0x48;
const LOAD_WORD_AT_INDEX: u16 = 0x40;
const SET_INDEX: u16 = 0x01;
const CELL_TO_INDEX: u16 = 0x61;
const STORE: u16 = 0x02;
const ADD_INDEX: u16 = 0x0c;
const MULTIPLY: u16 = 0x24;
const AND: u16 = 0x54;
const SHIFT_RIGHT: u16 = 0x74;
const XOR: u16 = 0xa4;
const XOR_INDEX: u16 = 0xac;
const SKIP: u16 = 0x05;
const EQUALS: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const HAS_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;
const A_TO_INDEX: u16 = 0x07;

#[cfg(test)]
mod tests {
    use super::super::WorkerId;
    use super::*;
    use crate::listen::{Absent, Door, DoorKind, bind};

    /// What the kernel would do with `packet`; a read outside of it ends a program with 0.
    fn run(program: &[Instruction], packet: &[u8]) -> u32 {
        let (mut at, mut a, mut x, mut cells) = (0, 0_u32, 0_u32, [0_u32; 16]);
        let read = |from: u32, octets: usize| -> Option<u32> {
            let from = from as usize;
            Some(packet.get(from..from + octets)?.iter().fold(0, |sum, &octet| sum << 8 | u32::from(octet)))
        };
        loop {
            let Instruction { code, yes, no, operand } = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { yes } else { no });
            let loaded = match code {
                LOAD_OCTET => Some(read(operand, 1)),
                LOAD_OCTET_AT_INDEX => Some(read(x + operand, 1)),
                LOAD_PAIR_AT_INDEX => Some(read(x + operand, 2)),
                LOAD_WORD_AT_INDEX => Some(read(x + operand, 4)),
                _ => None,
            };
            match (loaded, code) {
                (Some(Some(value)), _) => a = value,
                (Some(None), _) => return 0,
                (None, LOAD_LENGTH) => a = u32::try_from(packet.len()).unwrap(),
                (None, SET_INDEX) => x = operand,
                (None, CELL_TO_INDEX) => x = cells[operand as usize],
                (None, STORE) => cells[operand as usize] = a,
                (None, ADD_INDEX) => a = a.wrapping_add(x),
                (None, MULTIPLY) => a = a.wrapping_mul(operand),
                (None, AND) => a &= operand,
                (None, SHIFT_RIGHT) => a >>= operand,
                (None, XOR) => a ^= operand,
                (None, XOR_INDEX) => a ^= x,
                (None, A_TO_INDEX) => x = a,
                (None, SKIP) => at += operand as usize,
                (None, EQUALS) => at += jump(a == operand),
                (None, AT_LEAST) => at += jump(a >= operand),
                (None, HAS_BITS) => at += jump(a & operand != 0),
                (None, RETURN) => return operand,
                (None, RETURN_A) => return a,
                _ => panic!("no such instruction: {code:#x}"),
            }
        }
    }

    fn short(id: &[u8]) -> Vec<u8> {
        [&[0x4f][..], id, &[0xaa; 21]].concat()
    }

    fn long(id: &[u8]) -> Vec<u8> {
        [&[0xe3, 0, 0, 0, 1, u8::try_from(id.len()).unwrap()][..], id, &[0xaa; 30]].concat()
    }

    #[test]
    fn the_program_finds_the_worker_of_every_id() {
        for octet in 0..8 {
            let key = IdKey::new([octet; 16]);
            let program = program(key.mask_key());
            for index in 0..=u8::MAX {
                let id = key.id(WorkerId { index, generation: octet }, rand::random());
                assert_eq!(run(&program, &short(&id)), u32::from(index));
                assert_eq!(run(&program, &long(&id)), u32::from(index));
            }
        }
    }

    #[test]
    fn the_program_leaves_to_the_kernel_what_has_no_id_of_ours() {
        let key = IdKey::new([3; 16]);
        let program = program(key.mask_key());
        for length in [0, 4, 8, 9, 11, 20] {
            assert_eq!(run(&program, &long(&vec![7; length])), NOBODY, "{length}");
        }
        let id = key.id(WorkerId { index: 0, generation: 0 }, [1; NONCE]);
        for length in 0..=LENGTH {
            assert_eq!(run(&program, &short(&id)[..length]), NOBODY, "{length}");
        }
        for length in 0..6 + LENGTH {
            assert_eq!(run(&program, &long(&id)[..length]), NOBODY, "{length}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn qui_07_the_kernel_gives_each_of_eight_workers_its_own_whatever_port_they_come_from() {
        let door = Door { kind: DoorKind::Doq, address: "127.0.0.1:0".parse().unwrap() };
        let bound = bind::bind(&[door], 8, Absent::Refuse).unwrap().remove(0);
        let key = IdKey::new([5; 16]);
        attach(&bound.udp[0], &program(key.mask_key())).unwrap();
        let clients: Vec<_> = (0..8).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for (index, socket) in (0..).zip(&bound.udp) {
            for client in &clients {
                let id = key.id(WorkerId { index, generation: 9 }, rand::random());
                for packet in [short(&id), long(&id)] {
                    client.send_to(&packet, bound.address).unwrap();
                    let mut octets = [0; 100];
                    let (length, source) = socket.recv_from(&mut octets).unwrap();
                    assert_eq!((&octets[..length], source), (&packet[..], client.local_addr().unwrap()));
                }
            }
        }
        // What the program does not know is still somebody's, by the kernel's hash.
        clients[0].send_to(&long(&[7; 8]), bound.address).unwrap();
        assert_eq!(bound.udp.iter().filter(|socket| socket.recv(&mut [0; 100]).is_ok()).count(), 1);
    }
}
