//! `DUMP` payloads: one value with its type before and a footer behind.
//!
//! ```text
//! | type u8 | value | RDB version u16 LE | CRC-64 of all before it, LE |
//! ```

use crate::decode::{Decoded, Decoder, Input, Stop};
use crate::draft::{Draft, Packer};
use crate::encode;
use crate::format::{RdbVersion, crc64, kind, readable};
use crate::reader::STRING_BYTES_MAX;
use holdfast_engine::types::TypeLimits;
use holdfast_engine::{BadPayload, Value, ValueCodec, ValueRef};

/// The engine's codec for `DUMP` and `RESTORE`.
#[derive(Debug, Clone, Default)]
pub struct DumpCodec {
    /// The forms that restored values take.
    pub limits: TypeLimits,
    /// The version that payloads carry.
    pub version: RdbVersion,
    /// Whether long strings are compressed.
    pub compress: bool,
    /// Whether the checksum is not compared (for tests).
    pub ignore_checksum: bool,
    /// Whether payloads of versions that we do not know are tried.
    pub relaxed: bool,
}

impl DumpCodec {
    /// Encodes a value.
    pub fn encode(&self, v: ValueRef<'_>) -> Vec<u8> {
        let kind = encode::kind_of(v);
        // No older version has fields that expire.
        let version = match kind {
            kind::HASH_2 => RdbVersion::V80,
            _ => self.version,
        };
        let mut draft = Draft::new(self.compress);
        draft.push(kind);
        encode::value(&mut draft, v);
        let mut out = Packer::new(false).pack(draft);
        out.extend_from_slice(&version.number().to_le_bytes());
        let sum = crc64(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Decodes a payload.
    ///
    /// # Errors
    /// When the footer is wrong, or the value malformed or of a type that we do not have.
    pub fn decode(&self, payload: &[u8]) -> Result<Value, BadPayload> {
        let footer_at = payload
            .len()
            .checked_sub(10)
            .ok_or(BadPayload::VersionOrChecksum)?;
        let (body, footer) = payload.split_at(footer_at);
        let version = u32::from(u16::from_le_bytes([footer[0], footer[1]]));
        let sum = crc64(&payload[..footer_at + 2]);
        if !readable(version, self.relaxed)
            || (!self.ignore_checksum && footer[2..] != sum.to_le_bytes())
        {
            return Err(BadPayload::VersionOrChecksum);
        }
        let bad =
            |at: usize, reason: &str| BadPayload::Malformed(format!("{reason} (at offset {at})"));
        let (kind, value) = body.split_first().ok_or_else(|| bad(0, "empty payload"))?;
        let mut input = Input {
            bytes: value,
            at: 0,
            string_max: STRING_BYTES_MAX,
        };
        let mut decoder = Decoder::Start(*kind);
        loop {
            let at = input.at + 1;
            match decoder.step(&mut input, &self.limits) {
                Ok(None) => {}
                Ok(Some(Decoded::Value(v))) if input.at == value.len() => return Ok(v),
                Ok(Some(Decoded::Value(_))) => {
                    return Err(bad(input.at + 1, "bytes behind the value"));
                }
                Ok(Some(Decoded::Empty)) => return Err(bad(at, "collection without elements")),
                Err(Stop::More(_)) => return Err(bad(at, "payload too short")),
                Err(Stop::Bad(reason)) => return Err(bad(at, &reason)),
            }
        }
    }
}

impl ValueCodec for DumpCodec {
    fn dump(&self, v: ValueRef<'_>) -> Vec<u8> {
        self.encode(v)
    }

    fn load(&self, payload: &[u8]) -> Result<Value, BadPayload> {
        self.decode(payload)
    }
}
