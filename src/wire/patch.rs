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

/// Lowers the TTL at each offset of the packed list `offsets` to `ceiling` where it is more.
pub fn cap_ttls(message: &mut [u8], offsets: &[u8], ceiling: u32) {
    for_each_ttl(message, offsets, |ttl| ttl.min(ceiling));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_01_ttls_fall_by_the_age_and_no_lower_than_the_floor() {
        let mut message = [9, 0, 0, 1, 0, 0, 0, 0, 10, 9, 0xff, 0xff, 0xff, 0xff];
        age_ttls(&mut message, &[0, 1, 0, 5, 0, 10], 20, 1);
        assert_eq!(message, [9, 0, 0, 0, 236, 0, 0, 0, 1, 9, 0xff, 0xff, 0xff, 0xeb]);
        set_ttls(&mut message, &[0, 5], 30);
        assert_eq!(message[5..9], [0, 0, 0, 30]);
    }

    #[test]
    fn offsets_outside_the_message_change_nothing() {
        let mut message = [1, 2, 3, 4, 5, 6];
        age_ttls(&mut message, &[0, 3, 0xff, 0xff, 0], 1, 0);
        set_id(&mut [0], 7);
        put_u16(&mut message, 5, 0);
        add_additional(&mut message);
        assert_eq!(message, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn header_edits_touch_their_fields_alone() {
        let mut message = [0xff; 13];
        set_id(&mut message, 0x0102);
        set_flags(&mut message, Flags(0x0304));
        set_counts(&mut message, [5, 6, 7, 8]);
        add_additional(&mut message);
        assert_eq!(message, [1, 2, 3, 4, 0, 5, 0, 6, 0, 7, 0, 9, 0xff]);
    }
}
