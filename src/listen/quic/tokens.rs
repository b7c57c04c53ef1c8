//! Tokens by which a client proves that its address is its own before the handshake does (RFC 9000 8.1): in a Retry, and in the
//! `NEW_TOKEN` frame of an earlier connection, which spares the next one a Retry.
//!
//! They are sealed with keys that a fleet shares, so that a Retry of one instance may be followed by a visit to another. A token of
//! `NEW_TOKEN` is good once at each instance and for half an epoch of keys; at another address it counts for nothing.

use std::fmt;
use std::sync::Arc;

use quinn::crypto::{AeadKey, CryptoError, HandshakeTokenKey};
use quinn::{BloomTokenLog, ServerConfig, TokenLog, ValidationTokenConfig};

use crate::identity::Keys;

/// Makes and judges the tokens of all doors of a gateway.
#[derive(Clone)]
pub struct Tokens {
    keys: Arc<Keys>,
    used: Arc<dyn TokenLog>,
}

impl Tokens {
    /// With `keys`, which may change at any time.
    #[must_use]
    pub fn new(keys: Arc<Keys>) -> Self {
        Self { keys, used: Arc::new(BloomTokenLog::new_expected_items(USED_OCTETS, USED)) }
    }

    /// Has `config` use them.
    pub fn apply(&self, config: &mut ServerConfig) {
        let mut validation = ValidationTokenConfig::default();
        validation.lifetime(self.keys.life()).log(Arc::clone(&self.used)).sent(1);
        config.validation_token_config(validation).token_key(Arc::new(Key(Arc::clone(&self.keys))));
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// As the library knows it: one for each token, by what is unique about it.
struct Key(Arc<Keys>);

impl HandshakeTokenKey for Key {
    fn aead_from_hkdf(&self, nonce: &[u8]) -> Box<dyn AeadKey> {
        Box::new(Sealer { keys: Arc::clone(&self.0), nonce: nonce.into() })
    }
}

struct Sealer {
    keys: Arc<Keys>,
    nonce: Box<[u8]>,
}

impl AeadKey for Sealer {
    fn seal(&self, data: &mut Vec<u8>, _: &[u8]) -> Result<(), CryptoError> {
        if self.keys.seal_token(&self.nonce, data).is_err() {
            // The caller would panic at an error; a token of nothing is opened by nobody.
            data.clear();
        }
        Ok(())
    }

    fn open<'a>(&self, data: &'a mut [u8], _: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        self.keys.open_token(&self.nonce, data).ok_or(CryptoError)
    }
}

/// Memory for which tokens have been used; where it gets full, more and more count as used, and cost a round trip.
const USED_OCTETS: usize = 1 << 20;

/// Tokens used within two lives of one that this must hold.
const USED: u64 = 200_000;
