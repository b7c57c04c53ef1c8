//! Edits in place: id, flags, counts, TTLs. All ignore offsets outside the message.

use super::header::Flags;

/// Sets the message id.
pub fn set_id(message: &mut [u8], id: u16) {
    put_u16(message, 0, id);
}

/// Sets the second header word.
pub fn set_flags(message: &mut [u8], flags: Flags) {
    put_u16(message, 2, flags.0);
}

/// Sets the four section counts.
pub fn set_counts(message: &mut [u8], counts: [u16; 4]) {
    for (at, count) in [4, 6, 8, 10].into_iter().zip(counts) {
        put_u16(message, at, count);
    }
}

/// Raises ARCOUNT by one, for an OPT that was appended.
pub fn add_additional(message: &mut [u8]) {
    if let Some(count) = message.get_mut(10..).and_then(<[u8]>::first_chunk_mut::<2>) {
        *count = u16::from_be_bytes(*count).saturating_add(1).to_be_bytes();
    }
}

/// Lowers the TTL at each offset by `age` seconds, not below `floor`.
///
/// `offsets` is a packed list of big-endian 16-bit offsets of TTL fields, as a stored answer keeps them.
pub fn age_ttls(message: &mut [u8], offsets: &[u8], age: u32, floor: u32) {
    for_each_ttl(message, offsets, |ttl| ttl.saturating_sub(age).max(floor));
}

/// Sets the TTL at each offset of the packed list `offsets` to `ttl`.
pub fn set_ttls(message: &mut [u8], offsets: &[u8], ttl: u32) {
    for_each_ttl(message, offsets, |_| ttl);
}

fn for_each_ttl(message: &mut [u8], offsets: &[u8], change: impl Fn(u32) -> u32) {
    for pair in offsets.chunks_exact(2) {
        let Some(at) = pair.first_chunk::<2>().map(|octets| usize::from(u16::from_be_bytes(*octets))) else { continue };
        if let Some(field) = message.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *field = change(u32::from_be_bytes(*field)).to_be_bytes();
        }
    }
}

/// Writes `value` big-endian at `at`.
pub fn put_u16(message: &mut [u8], at: usize, value: u16) {
    if let Some(field) = message.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
        *field = value.to_be_bytes();
    }
}
