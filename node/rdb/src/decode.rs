//! Values as RDB encodes them, decoded a piece at a time.
//!
//! Every function works on the bytes that have come so far. [`Stop::More`] means that the piece at hand (a
//! length, one string) is not whole yet: nothing was consumed, come again with at least that many bytes.
//! No allocation is larger than the bytes that have come, compressed strings aside, which are bounded by LZF's ratio.

use crate::format::{container, kind};
use crate::stream::StreamDecoder;
use crate::{lzf, ziplist};
use holdfast_engine::types::hash_value::{ALL_FIELDS, FieldSet, FieldTtl, NO_EXPIRY};
use holdfast_engine::types::list_value::{End, Node};
use holdfast_engine::types::listpack::Listpack;
use holdfast_engine::types::set_ints::IntSet;
use holdfast_engine::types::zset_value::Inserted;
use holdfast_engine::types::{HashValue, ListValue, SetValue, TypeLimits, ZsetValue};
use holdfast_engine::{StrValue, Value};

/// Why a piece could not be decoded.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It takes at least this many bytes from its start.
    More(usize),
    /// It is wrong.
    Bad(String),
}

impl From<&'static str> for Stop {
    fn from(reason: &'static str) -> Self {
        Stop::Bad(reason.into())
    }
}

/// What a string turned out to be.
pub(crate) enum Text<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The digits of this integer.
    Int(i64),
    /// What has been unpacked.
    Unpacked,
}

/// Bytes at hand and how far they are read.
pub(crate) struct Input<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    /// Longest string that is believed.
    pub string_max: usize,
}

impl<'a> Input<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(n).ok_or("length overflow")?;
        let s = self.bytes.get(self.at..end).ok_or(Stop::More(end))?;
        self.at = end;
        Ok(s)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let s = self.take(N)?;
        let mut a = [0; N];
        a.copy_from_slice(s);
        Ok(a)
    }

    pub fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u32_le(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64_le(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length, or the number of a special string encoding.
    fn length_or_encoding(&mut self) -> Result<Result<u64, u8>, Stop> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Ok(u64::from(first & 0x3f)),
            1 => Ok((u64::from(first & 0x3f) << 8) | u64::from(self.byte()?)),
            2 => match first {
                0x80 => Ok(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Ok(u64::from_be_bytes(self.array()?)),
                _ => return Err(Stop::Bad(format!("unknown length encoding {first:#04x}"))),
            },
            _ => Err(first & 0x3f),
        })
    }

    pub fn length(&mut self) -> Result<u64, Stop> {
        self.length_or_encoding()?
            .map_err(|_| Stop::Bad("a string encoding where a length is expected".into()))
    }

    fn string_length(&self, n: u64) -> Result<usize, Stop> {
        match usize::try_from(n) {
            Ok(n) if n <= self.string_max => Ok(n),
            _ => Err(Stop::Bad(format!(
                "string of {n} bytes is longer than the limit of {}",
                self.string_max
            ))),
        }
    }

    /// A string in any of its encodings, without an allocation of its own: what was compressed is in `unpacked` then.
    pub fn text(&mut self, unpacked: &mut Vec<u8>) -> Result<Text<'a>, Stop> {
        Ok(match self.length_or_encoding()? {
            Ok(n) => {
                let n = self.string_length(n)?;
                Text::Bytes(self.take(n)?)
            }
            Err(0) => Text::Int(i64::from(self.byte()? as i8)),
            Err(1) => Text::Int(i64::from(i16::from_le_bytes(self.array()?))),
            Err(2) => Text::Int(i64::from(i32::from_le_bytes(self.array()?))),
            Err(3) => {
                let n = self.length()?;
                let packed = self.string_length(n)?;
                let n = self.length()?;
                let len = self.string_length(n)?;
                lzf::decompress(self.take(packed)?, len, unpacked)?;
                Text::Unpacked
            }
            Err(e) => return Err(Stop::Bad(format!("unknown string encoding {e}"))),
        })
    }

    /// A string in any of its encodings.
    pub fn string(&mut self) -> Result<Vec<u8>, Stop> {
        let mut unpacked = Vec::new();
        Ok(match self.text(&mut unpacked)? {
            Text::Bytes(bytes) => bytes.to_vec(),
            Text::Int(value) => value.to_string().into_bytes(),
            Text::Unpacked => unpacked,
        })
    }

    /// A score as text, as `ZSET` before version 8 has it.
    fn old_double(&mut self) -> Result<f64, Stop> {
        match self.byte()? {
            255 => Ok(f64::NEG_INFINITY),
            254 => Ok(f64::INFINITY),
            253 => Ok(f64::NAN),
            n => std::str::from_utf8(self.take(usize::from(n))?)
                .ok()
                .and_then(|s| s.trim_start().parse().ok())
                .ok_or(Stop::Bad("malformed score".into())),
        }
    }
}

/// What a finished value turned out to be.
pub(crate) enum Decoded {
    /// A value.
    Value(Value),
    /// A collection without elements: old versions left such keys behind; they are dropped.
    Empty,
}

/// A value being decoded.
pub(crate) enum Decoder {
    /// Nothing read yet; the value's type.
    Start(u8),
    List {
        left: u64,
        list: ListValue,
    },
    Quick {
        left: u64,
        version: u8,
        list: ListValue,
    },
    Set {
        left: u64,
        set: SetValue,
    },
    Hash {
        left: u64,
        with_expiry: bool,
        hash: HashValue,
    },
    Zset {
        left: u64,
        binary: bool,
        zset: ZsetValue,
    },
    Stream(Box<StreamDecoder>),
}

/// Why a type cannot be read, if it cannot.
pub(crate) fn refuse(kind: u8) -> Option<&'static str> {
    match kind {
        kind::STRING..=kind::ZSET_2 | kind::HASH_ZIPMAP..=kind::LIST_QUICKLIST => None,
        kind::HASH_LISTPACK | kind::ZSET_LISTPACK | kind::LIST_QUICKLIST_2 | kind::SET_LISTPACK => {
            None
        }
        kind::HASH_2 => None,
        kind::STREAM_LISTPACKS | kind::STREAM_LISTPACKS_2 | kind::STREAM_LISTPACKS_3 => None,
        kind::MODULE_PRE_GA | kind::MODULE_2 => Some("module values are not supported"),
        _ => Some("unknown value type"),
    }
}

impl Decoder {
    /// Decodes one piece more; the value when it is whole.
    pub fn step(
        &mut self,
        input: &mut Input<'_>,
        limits: &TypeLimits,
    ) -> Result<Option<Decoded>, Stop> {
        let done = match self {
            Decoder::Start(kind) => match start(*kind, input, limits)? {
                Ok(decoded) => return Ok(Some(decoded)),
                Err(next) => {
                    *self = next;
                    return Ok(None);
                }
            },
            Decoder::List { left, list } => {
                let s = input.string()?;
                list.prepare(s.len(), 1, limits);
                list.push(End::Right, &s, limits);
                *left -= 1;
                (*left == 0).then(|| Value::List(std::mem::take(list)))
            }
            Decoder::Quick {
                left,
                version,
                list,
            } => {
                quick_node(*version, input, list)?;
                *left -= 1;
                if *left == 0 {
                    list.fit(limits);
                    if list.is_empty() {
                        return Ok(Some(Decoded::Empty));
                    }
                    Some(Value::List(std::mem::take(list)))
                } else {
                    None
                }
            }
            Decoder::Stream(decoder) => {
                let stream = decoder.step(input)?;
                stream.map(|stream| Value::Stream(Box::new(stream)))
            }
            Decoder::Set { left, set } => {
                if !set.insert(&input.string()?, limits) {
                    return Err("Duplicate set members detected".into());
                }
                *left -= 1;
                (*left == 0).then(|| Value::Set(std::mem::take(set)))
            }
            Decoder::Hash {
                left,
                with_expiry,
                hash,
            } => {
                let (field, value) = (input.string()?, input.string()?);
                let ttl = match if *with_expiry {
                    input.u64_le()?
                } else {
                    NO_EXPIRY
                } {
                    NO_EXPIRY => FieldTtl::Clear,
                    at if i64::try_from(at).is_ok() => FieldTtl::At(at),
                    _ => return Err("hash field with a negative expiry".into()),
                };
                if hash.put(&field, &value, ttl, ALL_FIELDS, limits) != FieldSet::Added {
                    return Err("Duplicate hash fields detected".into());
                }
                *left -= 1;
                (*left == 0).then(|| Value::Hash(std::mem::take(hash)))
            }
            Decoder::Zset { left, binary, zset } => {
                let member = input.string()?;
                let score = match binary {
                    true => f64::from_bits(input.u64_le()?),
                    false => input.old_double()?,
                };
                if score.is_nan() {
                    return Err("Zset with NAN score detected".into());
                }
                if zset.insert(&member, score, limits) != Inserted::Added {
                    return Err("Duplicate zset fields detected".into());
                }
                *left -= 1;
                (*left == 0).then(|| Value::Zset(std::mem::take(zset)))
            }
        };
        Ok(done.map(Decoded::Value))
    }
}

/// What a container's error becomes: which one it is, in Valkey's words, and what is wrong.
pub(crate) fn broken(container: &'static str) -> impl Fn(&'static str) -> Stop {
    move |reason| Stop::Bad(format!("{container} integrity check failed. ({reason})"))
}

/// One node of a quicklist.
fn quick_node(version: u8, input: &mut Input<'_>, list: &mut ListValue) -> Result<(), Stop> {
    let plain = version == kind::LIST_QUICKLIST_2
        && match input.length()? {
            container::PLAIN => true,
            container::PACKED => false,
            _ => return Err("Quicklist integrity check failed. (node of unknown kind)".into()),
        };
    let bytes = input.string()?;
    if bytes.is_empty() {
        return Err("Quicklist integrity check failed. (empty node)".into());
    }
    list.append_node(if plain {
        Node::Plain(bytes.into())
    } else if version == kind::LIST_QUICKLIST_2 {
        let pack = Listpack::from_bytes(bytes);
        Node::Pack(pack.map_err(broken("Listpack"))?)
    } else {
        let pack = ziplist::to_listpack(&bytes);
        Node::Pack(pack.map_err(broken("Ziplist"))?)
    });
    Ok(())
}

/// Reads what comes first: the whole value when it is one string, else the count of its elements.
fn start(
    kind: u8,
    input: &mut Input<'_>,
    limits: &TypeLimits,
) -> Result<Result<Decoded, Decoder>, Stop> {
    if let Some(reason) = refuse(kind) {
        return Err(Stop::Bad(format!("{reason} (type {kind})")));
    }
    match kind {
        kind::STRING => {
            return Ok(Ok(Decoded::Value(Value::Str(StrValue::new(
                &input.string()?,
            )))));
        }
        kind::LIST
        | kind::SET
        | kind::ZSET
        | kind::HASH
        | kind::ZSET_2
        | kind::HASH_2
        | kind::LIST_QUICKLIST
        | kind::LIST_QUICKLIST_2 => {
            let left = input.length()?;
            let count = usize::try_from(left).unwrap_or(usize::MAX);
            return Ok(match (kind, left) {
                (_, 0) => Ok(Decoded::Empty),
                (kind::LIST, _) => Err(Decoder::List {
                    left,
                    list: ListValue::new(),
                }),
                (kind::SET, _) => {
                    let mut set = SetValue::new();
                    if count > limits.set_intset_entries {
                        set.prepare(count, limits);
                    }
                    Err(Decoder::Set { left, set })
                }
                (kind::HASH | kind::HASH_2, _) => {
                    let mut hash = HashValue::new();
                    if kind == kind::HASH_2 {
                        hash.make_table(0);
                    }
                    Err(Decoder::Hash {
                        left,
                        with_expiry: kind == kind::HASH_2,
                        hash,
                    })
                }
                (kind::ZSET | kind::ZSET_2, _) => Err(Decoder::Zset {
                    left,
                    binary: kind == kind::ZSET_2,
                    zset: ZsetValue::new_for(count, 0, limits),
                }),
                _ => Err(Decoder::Quick {
                    left,
                    version: kind,
                    list: ListValue::new(),
                }),
            });
        }
        _ => {}
    }
    if let kind::STREAM_LISTPACKS | kind::STREAM_LISTPACKS_2 | kind::STREAM_LISTPACKS_3 = kind {
        let decoder = StreamDecoder::new(kind, input.length()?);
        return Ok(Err(Decoder::Stream(Box::new(decoder))));
    }
    let bytes = input.string()?;
    let (empty, value) = match kind {
        kind::SET_INTSET => {
            let ints = IntSet::from_bytes(bytes).map_err(broken("Intset"))?;
            (
                ints.is_empty(),
                Value::Set(SetValue::from_ints(ints, limits)),
            )
        }
        kind::SET_LISTPACK => {
            let whole = broken("Set listpack");
            let lp = Listpack::from_bytes(bytes).map_err(&whole)?;
            (
                lp.is_empty(),
                Value::Set(SetValue::from_listpack(lp, limits).map_err(&whole)?),
            )
        }
        kind::LIST_ZIPLIST => {
            let lp = ziplist::to_listpack(&bytes).map_err(broken("List ziplist"))?;
            (
                lp.is_empty(),
                Value::List(ListValue::from_nodes([Node::Pack(lp)], limits)),
            )
        }
        _ => {
            let whole = broken(match kind {
                kind::HASH_LISTPACK => "Hash listpack",
                kind::ZSET_LISTPACK => "Zset listpack",
                kind::HASH_ZIPMAP => "Zipmap",
                kind::ZSET_ZIPLIST => "Zset ziplist",
                _ => "Hash ziplist",
            });
            let lp = match kind {
                kind::HASH_LISTPACK | kind::ZSET_LISTPACK => Listpack::from_bytes(bytes),
                kind::HASH_ZIPMAP => ziplist::zipmap_to_listpack(&bytes),
                kind::ZSET_ZIPLIST | kind::HASH_ZIPLIST => ziplist::to_listpack(&bytes),
                _ => return Err("Unknown RDB encoding type".into()),
            }
            .map_err(&whole)?;
            let empty = lp.is_empty();
            match kind {
                kind::ZSET_LISTPACK | kind::ZSET_ZIPLIST => (
                    empty,
                    Value::Zset(ZsetValue::from_listpack(lp, limits).map_err(&whole)?),
                ),
                _ => (
                    empty,
                    Value::Hash(HashValue::from_listpack(lp, limits).map_err(&whole)?),
                ),
            }
        }
    };
    Ok(Ok(if empty {
        Decoded::Empty
    } else {
        Decoded::Value(value)
    }))
}
