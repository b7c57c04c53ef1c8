//! The keys of one epoch, derived from its root by HKDF-SHA256 (RFC 5869) under labels of their own, so that none tells of another.

use aws_lc_rs::aead::{self, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand;

use super::NoKeys;

/// Octets of the name that stands before a ticket.
const TICKET_NAME: usize = 8;

/// Octets of the name that stands behind a token.
pub const TOKEN_NAME: usize = 4;

/// Sets this version's derivation apart from whatever else a secret may be used for.
const SALT: &[u8] = b"hushgate fleet 1";

/// What one epoch signs and opens with.
pub struct EpochKeys {
    ticket_name: [u8; TICKET_NAME],
    /// For nonces that are random: good for 2^32 tickets, 49 000 a second over a day (NIST SP 800-38D 8.3).
    ticket: LessSafeKey,
    token_name: [u8; TOKEN_NAME],
    token: Prk,
    cookie: [u8; 16],
}

impl EpochKeys {
    /// The keys of `epoch`, the same wherever `root` and the length of epochs are.
    pub fn derive(root: &[u8; 32], epoch: u64, rotate: u64) -> Result<Self, NoKeys> {
        let root = Salt::new(HKDF_SHA256, SALT).extract(root);
        let key = |label: &[u8]| expand(&root, &[label, &rotate.to_be_bytes(), &epoch.to_be_bytes()]);
        Ok(Self {
            ticket_name: head(key(b"ticket name")?),
            ticket: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key(b"ticket key")?)?),
            token_name: head(key(b"token name")?),
            token: Prk::new_less_safe(HKDF_SHA256, &key(b"token key")?),
            cookie: head(key(b"cookie key")?),
        })
    }

    /// Keys of an epoch that nobody else can know.
    pub fn random() -> Result<Self, NoKeys> {
        let mut root = [0; 32];
        rand::fill(&mut root)?;
        Self::derive(&root, 0, 0)
    }

    pub const fn cookie(&self) -> [u8; 16] {
        self.cookie
    }

    pub fn names_ticket(&self, name: [u8; TICKET_NAME]) -> bool {
        self.ticket_name == name
    }

    /// Name, nonce, what is sealed, tag: 36 octets more than `plain`.
    pub fn seal_ticket(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(TICKET_NAME + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&self.ticket_name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let sealed = ticket.get_mut(TICKET_NAME + NONCE_LEN..)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.ticket.seal_in_place_separate_tag(nonce, Aad::from(self.ticket_name), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    /// Opens what follows the name.
    pub fn open_ticket(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut opened = sealed.to_vec();
        let length = self.ticket.open_in_place(nonce, Aad::from(self.ticket_name), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }

    pub fn names_token(&self, name: [u8; TOKEN_NAME]) -> bool {
        self.token_name == name
    }

    pub fn seal_token(&self, nonce: &[u8], data: &mut Vec<u8>) -> Result<(), NoKeys> {
        let key = self.token_key(nonce)?;
        key.seal_in_place_append_tag(only_nonce(), Aad::empty(), data)?;
        data.extend_from_slice(&self.token_name);
        Ok(())
    }

    pub fn open_token<'a>(&self, nonce: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.token_key(nonce).ok()?.open_in_place(only_nonce(), Aad::empty(), sealed).ok()
    }

    /// A key for one token: what is unique about it is longer than a nonce may be.
    fn token_key(&self, nonce: &[u8]) -> Result<LessSafeKey, NoKeys> {
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &expand(&self.token, &[nonce])?)?))
    }
}

/// Of a key that seals one thing.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

fn expand(from: &Prk, info: &[&[u8]]) -> Result<[u8; 32], NoKeys> {
    let mut octets = [0; 32];
    from.expand(info, HKDF_SHA256)?.fill(&mut octets)?;
    Ok(octets)
}

/// The first octets of `whole`.
fn head<const N: usize>(whole: [u8; 32]) -> [u8; N] {
    let mut head = [0; N];
    head.iter_mut().zip(whole).for_each(|(place, octet)| *place = octet);
    head
}
