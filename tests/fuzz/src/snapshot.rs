//! Any octets as a snapshot of the cache: what is read of it is sound enough to make replies of, and ends.

use hushgate::cache::codec::Reader;
use hushgate::wire::patch;

/// One input.
pub fn run(input: &[u8]) {
    let Ok(mut reader) = Reader::open(input) else { return };
    assert!(reader.names().iter().all(|name| name.len() <= input.len()));
    while let Ok(Some(record)) = reader.read_next() {
        assert!(record.stored.message.len() <= input.len());
        let mut header = vec![0; 12];
        header.extend_from_slice(record.stored.message);
        for pair in record.stored.ttls.chunks_exact(2) {
            let at = usize::from(u16::from_be_bytes([pair[0], pair[1]]));
            assert!(at + 4 <= header.len(), "a TTL is within the message");
        }
        patch::age_ttls(&mut header, record.stored.ttls, 1, 0);
    }
}
