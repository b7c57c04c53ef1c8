//! Names that were dropped lately, as fingerprints: one that is asked for again has shown that it is no scan.

use super::index::scale;

/// A fixed table of tags in buckets of one cache line, each a first-in first-out list.
#[derive(Debug)]
pub struct Ghost {
    buckets: Vec<[u32; Ghost::WAYS]>,
}

impl Ghost {
    /// Tags a bucket.
    pub const WAYS: usize = 16;
    /// Octets a bucket.
    pub const BUCKET: usize = Self::WAYS * 4;

    /// A table of `buckets` buckets.
    pub fn new(buckets: usize) -> Self {
        Self { buckets: vec![[0; Self::WAYS]; buckets.max(1)] }
    }

    /// Remembers `tag`; the oldest in its bucket is forgotten.
    pub fn add(&mut self, tag: u32) {
        if let Some(bucket) = self.bucket(tag) {
            bucket.copy_within(..Self::WAYS - 1, 1);
            bucket[0] = mark(tag);
        }
    }

    /// Was `tag` remembered? Forgets it.
    pub fn take(&mut self, tag: u32) -> bool {
        let found = self.bucket(tag).and_then(|bucket| bucket.iter_mut().find(|known| **known == mark(tag)));
        found.map(|known| *known = 0).is_some()
    }

    /// Octets it holds.
    pub const fn footprint(&self) -> usize {
        self.buckets.capacity() * Self::BUCKET
    }

    fn bucket(&mut self, tag: u32) -> Option<&mut [u32; Self::WAYS]> {
        let at = scale(tag, self.buckets.len());
        self.buckets.get_mut(at)
    }
}

/// Zero stands for an empty place.
const fn mark(tag: u32) -> u32 {
    if tag == 0 { 1 } else { tag }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_remembered_once() {
        let mut ghost = Ghost::new(4);
        assert!(!ghost.take(0));
        for tag in [0, 7, u32::MAX] {
            ghost.add(tag);
        }
        for tag in [0, 7, u32::MAX] {
            assert!(ghost.take(tag), "{tag}");
            assert!(!ghost.take(tag), "{tag}");
        }
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut ghost = Ghost::new(1);
        for tag in 1..=17 {
            ghost.add(tag);
        }
        assert!(!ghost.take(1));
        assert!(ghost.take(2));
        assert!(ghost.take(17));
    }
}
