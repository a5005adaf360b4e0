//! The numbers of the RDB format, its checksum, and its versions.

use std::ops::RangeInclusive;

use crc::{Algorithm, Crc, Table};

/// Opcodes that stand where a value's type may stand.
pub(crate) mod op {
    pub const SLOT_IMPORT: u8 = 243;
    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION2: u8 = 245;
    pub const FUNCTION_PRE_GA: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQ: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZEDB: u8 = 251;
    pub const EXPIRETIME_MS: u8 = 252;
    pub const EXPIRETIME: u8 = 253;
    pub const SELECTDB: u8 = 254;
    pub const EOF: u8 = 255;
}

/// Types of values.
pub(crate) mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const MODULE_PRE_GA: u8 = 6;
    pub const MODULE_2: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM_LISTPACKS: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_LISTPACKS_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_LISTPACKS_3: u8 = 21;
    pub const HASH_2: u8 = 22;
}

/// Containers of a `LIST_QUICKLIST_2` node.
pub(crate) mod container {
    pub const PLAIN: u64 = 1;
    pub const PACKED: u64 = 2;
}

/// The checksum of RDB files and `DUMP` payloads: the "Jones" CRC-64.
const JONES: Algorithm<u64> = Algorithm {
    width: 64,
    poly: 0xad93_d235_94c9_35a9,
    init: 0,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0xe9c6_d914_c4b8_d9ca,
    residue: 0,
};

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&JONES);

/// A checksum being computed.
#[derive(Clone)]
pub(crate) struct Checksum(crc::Digest<'static, u64, Table<16>>);

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.value())
    }
}

impl Checksum {
    pub fn new() -> Self {
        Checksum(CRC.digest())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn value(&self) -> u64 {
        self.0.clone().finalize()
    }
}

/// CRC-64 ("Jones") of `bytes`, as RDB and `DUMP` use it.
pub fn crc64(bytes: &[u8]) -> u64 {
    CRC.checksum(bytes)
}

/// The version that a file or payload is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RdbVersion {
    /// 11, magic `REDIS`: what Redis 7.2, Valkey 7.2 and all later Valkey versions read.
    #[default]
    V11,
    /// 80, magic `VALKEY`: Valkey 9.0 and later.
    V80,
}

impl RdbVersion {
    /// The number.
    pub fn number(self) -> u16 {
        match self {
            RdbVersion::V11 => 11,
            RdbVersion::V80 => 80,
        }
    }

    /// The nine bytes that begin a file.
    pub fn magic(self) -> &'static [u8; 9] {
        match self {
            RdbVersion::V11 => b"REDIS0011",
            RdbVersion::V80 => b"VALKEY080",
        }
    }
}

/// Versions of formats that share no more than the name with ours.
pub(crate) const FOREIGN_VERSIONS: RangeInclusive<u32> = 12..=79;

/// The newest version that we know.
pub(crate) const NEWEST_VERSION: u32 = 80;

/// Types and opcodes that have another meaning in a file that begins with `REDIS`.
pub(crate) const FOREIGN_TYPES: RangeInclusive<u8> = 22..=243;

/// Whether a version is read. `relaxed` tries versions that we do not know, as long as nothing unknown is in them.
pub(crate) fn readable(version: u32, relaxed: bool) -> bool {
    version >= 1 && (relaxed || version <= NEWEST_VERSION && !FOREIGN_VERSIONS.contains(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_valkeys() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let mut c = Checksum::new();
        c.update(b"12345");
        c.update(b"6789");
        assert_eq!(c.value(), crc64(b"123456789"));
    }
}
