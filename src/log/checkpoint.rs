//! Signing checkpoints, so that a log that was rewritten as a whole, chain and all, shows.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use std::fmt::Write as _;
use std::sync::Arc;
use stheno_events::Digest;
use stheno_events::operator::Checkpoint;

/// Keeps signatures of checkpoints apart from anything else that the key may sign.
const CONTEXT: &[u8] = b"stheno checkpoint v1\0";

/// Why a key or a signature is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a key.
    #[error("the checkpoint key is not an Ed25519 key: expected 32 bytes as 64 hexadecimal digits")]
    Key,
    /// The checkpoint carries none.
    #[error("the checkpoint is not signed")]
    Unsigned,
    /// The signature is another key's, or of another content.
    #[error("the checkpoint's signature does not fit its content and this key")]
    Signature,
}

/// Signs checkpoints.
pub struct Signer(SigningKey);

impl Signer {
    /// From the private key: 32 bytes, hexadecimal.
    ///
    /// # Errors
    /// When the text is no key.
    pub fn from_hex(text: &str) -> Result<Self, Error> {
        Ok(Self(SigningKey::from_bytes(&bytes(text.trim()).ok_or(Error::Key)?)))
    }

    /// The public key, hexadecimal: what [`Verifier::from_hex`] reads.
    #[must_use]
    pub fn public_hex(&self) -> String {
        hex(self.0.verifying_key().as_bytes())
    }

    /// The signature of a checkpoint at `sequence` with `root`.
    #[must_use]
    pub fn sign(&self, sequence: u64, root: &Digest) -> Arc<str> {
        hex(&self.0.sign(&signed(sequence, root)).to_bytes()).into()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.public_hex())
    }
}

/// Checks signed checkpoints.
#[derive(Debug, Clone)]
pub struct Verifier(VerifyingKey);

impl Verifier {
    /// From the public key: 32 bytes, hexadecimal.
    ///
    /// # Errors
    /// When the text is no key.
    pub fn from_hex(text: &str) -> Result<Self, Error> {
        let bytes = bytes(text.trim()).ok_or(Error::Key)?;
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| Error::Key)
    }

    /// Whether the checkpoint was signed by this key as it stands.
    ///
    /// # Errors
    /// When it was not.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let text = checkpoint.signature.as_deref().ok_or(Error::Unsigned)?;
        let signature = Signature::from_bytes(&bytes(text).ok_or(Error::Signature)?);
        self.0.verify_strict(&signed(checkpoint.sequence, &checkpoint.root), &signature).map_err(|_| Error::Signature)
    }
}

fn signed(sequence: u64, root: &Digest) -> Vec<u8> {
    [CONTEXT, &sequence.to_be_bytes(), &root.0].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |sum, digit| sum << 4 | digit);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(signer: &Signer) -> Checkpoint {
        let root = Digest::of(b"root");
        Checkpoint { sequence: 7, heads: Default::default(), root, signature: Some(signer.sign(7, &root)) }
    }

    #[test]
    fn only_what_was_signed_by_this_key_verifies() {
        let signer = Signer::from_hex(&"0a".repeat(32)).unwrap();
        let verifier = Verifier::from_hex(&signer.public_hex()).unwrap();
        let good = checkpoint(&signer);
        assert_eq!(verifier.verify(&good), Ok(()));
        assert_eq!(verifier.verify(&Checkpoint { sequence: 8, ..good.clone() }), Err(Error::Signature));
        assert_eq!(verifier.verify(&Checkpoint { root: Digest::of(b"other"), ..good.clone() }), Err(Error::Signature));
        assert_eq!(verifier.verify(&Checkpoint { signature: None, ..good.clone() }), Err(Error::Unsigned));
        assert_eq!(verifier.verify(&Checkpoint { signature: Some("ä".into()), ..good.clone() }), Err(Error::Signature));
        let other = Signer::from_hex(&"0b".repeat(32)).unwrap();
        assert_eq!(Verifier::from_hex(&other.public_hex()).unwrap().verify(&good), Err(Error::Signature));
    }

    #[test]
    fn keys_that_are_none() {
        for text in ["", "0a", &"0g".repeat(32), &"é".repeat(32)] {
            assert!(matches!(Signer::from_hex(text), Err(Error::Key)), "{text}");
        }
    }
}
