//! Values: what a key can hold.

use std::ops::Deref;

use holdfast_resp::number::IntText;
use holdfast_resp::{format_i64, parse_i64};

use crate::digest::ValueDigest;
use crate::types::{HashValue, ListValue, SetValue, StreamValue, ZsetValue};

/// The data types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `string`
    Str,
    /// `list`
    List,
    /// `set`
    Set,
    /// `zset`
    Zset,
    /// `hash`
    Hash,
    /// `stream`
    Stream,
}

impl Type {
    /// As `TYPE` answers it.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Str => "string",
            Type::List => "list",
            Type::Set => "set",
            Type::Zset => "zset",
            Type::Hash => "hash",
            Type::Stream => "stream",
        }
    }

    /// Valkey's number of the type (`OBJ_STRING` …), which goes into digests.
    pub const fn number(self) -> u32 {
        match self {
            Type::Str => 0,
            Type::List => 1,
            Type::Set => 2,
            Type::Zset => 3,
            Type::Hash => 4,
            // 5 is the type of modules.
            Type::Stream => 6,
        }
    }

    /// Whether clients can be blocked on keys of this type.
    pub const fn unblocks(self) -> bool {
        matches!(self, Type::List | Type::Zset | Type::Stream)
    }
}

/// A value on its own: on its way into a key or out of it.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Str(StrValue),
    /// A list.
    List(ListValue),
    /// A set.
    Set(SetValue),
    /// A sorted set.
    Zset(ZsetValue),
    /// A hash.
    Hash(HashValue),
    /// A stream.
    Stream(Box<StreamValue>),
}

/// A string, kept as an integer where it is the canonical text of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrValue {
    /// The text of this integer.
    Int(i64),
    /// Any bytes.
    Bytes(Vec<u8>),
}

impl StrValue {
    /// A string of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        match parse_i64(bytes) {
            Some(value) => StrValue::Int(value),
            None => StrValue::Bytes(bytes.to_vec()),
        }
    }

    /// A view.
    pub fn as_ref(&self) -> StrRef<'_> {
        match self {
            StrValue::Int(value) => StrRef::Int(*value),
            StrValue::Bytes(bytes) => StrRef::Bytes(bytes),
        }
    }
}

/// A value inside the keyspace, to read.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// A string.
    Str(StrRef<'a>),
    /// A list.
    List(&'a ListValue),
    /// A set.
    Set(&'a SetValue),
    /// A sorted set.
    Zset(&'a ZsetValue),
    /// A hash.
    Hash(&'a HashValue),
    /// A stream.
    Stream(&'a StreamValue),
}

/// A value inside the keyspace, to change in place. Strings are changed by replacing them.
#[derive(Debug)]
pub enum ValueMut<'a> {
    /// A string.
    Str,
    /// A list.
    List(&'a mut ListValue),
    /// A set.
    Set(&'a mut SetValue),
    /// A sorted set.
    Zset(&'a mut ZsetValue),
    /// A hash.
    Hash(&'a mut HashValue),
    /// A stream.
    Stream(&'a mut StreamValue),
}

/// A string inside the keyspace, to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrRef<'a> {
    /// The text of this integer.
    Int(i64),
    /// These bytes.
    Bytes(&'a [u8]),
}

/// The bytes of a string, at hand.
#[derive(Clone, Copy)]
pub enum StrText<'a> {
    /// Digits made on the spot.
    Int(IntText),
    /// The stored bytes.
    Bytes(&'a [u8]),
}

impl Deref for StrText<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            StrText::Int(text) => text.as_bytes(),
            StrText::Bytes(bytes) => bytes,
        }
    }
}

impl<'a> StrRef<'a> {
    /// The bytes.
    #[inline]
    pub fn text(self) -> StrText<'a> {
        match self {
            StrRef::Int(value) => StrText::Int(format_i64(value)),
            StrRef::Bytes(bytes) => StrText::Bytes(bytes),
        }
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "STRLEN is all that asks")]
    pub fn len(self) -> usize {
        self.text().len()
    }

    /// As an owned value.
    pub fn to_value(self) -> StrValue {
        match self {
            StrRef::Int(value) => StrValue::Int(value),
            StrRef::Bytes(bytes) => StrValue::Bytes(bytes.to_vec()),
        }
    }

    /// `OBJECT ENCODING`.
    pub fn encoding(self) -> &'static str {
        match self {
            StrRef::Int(_) => "int",
            StrRef::Bytes(bytes) if bytes.len() <= EMBSTR_MAX => "embstr",
            StrRef::Bytes(_) => "raw",
        }
    }
}

/// The longest string that `OBJECT ENCODING` calls `embstr`, as in Valkey.
pub const EMBSTR_MAX: usize = 44;

impl Value {
    /// A view.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Str(v) => ValueRef::Str(v.as_ref()),
            Value::List(v) => ValueRef::List(v),
            Value::Set(v) => ValueRef::Set(v),
            Value::Zset(v) => ValueRef::Zset(v),
            Value::Hash(v) => ValueRef::Hash(v),
            Value::Stream(v) => ValueRef::Stream(v),
        }
    }

    /// The type.
    pub fn ty(&self) -> Type {
        self.as_ref().ty()
    }

    /// Removes the fields of a hash whose time has passed: for a value that is loaded where nobody else will have them deleted.
    /// Whether anything is left.
    pub fn drop_expired_fields(&mut self, now_ms: u64) -> bool {
        match self {
            Value::Hash(hash) => hash.drop_expired(now_ms) == 0 || !hash.is_empty(),
            _ => true,
        }
    }

    /// See [`DataType::discard`].
    pub(crate) fn discard(&mut self, elements: usize) -> bool {
        match self {
            Value::Str(_) => false,
            Value::List(v) => v.discard(elements),
            Value::Set(v) => v.discard(elements),
            Value::Zset(v) => v.discard(elements),
            Value::Hash(v) => v.discard(elements),
            Value::Stream(v) => v.discard(elements),
        }
    }
}

impl ValueRef<'_> {
    /// The type.
    pub fn ty(self) -> Type {
        match self {
            ValueRef::Str(_) => Type::Str,
            ValueRef::List(_) => Type::List,
            ValueRef::Set(_) => Type::Set,
            ValueRef::Zset(_) => Type::Zset,
            ValueRef::Hash(_) => Type::Hash,
            ValueRef::Stream(_) => Type::Stream,
        }
    }

    /// `OBJECT ENCODING`.
    pub fn encoding(self) -> &'static str {
        match self {
            ValueRef::Str(v) => v.encoding(),
            ValueRef::List(v) => v.encoding(),
            ValueRef::Set(v) => v.encoding(),
            ValueRef::Zset(v) => v.encoding(),
            ValueRef::Hash(v) => v.encoding(),
            ValueRef::Stream(v) => v.encoding(),
        }
    }

    /// A copy.
    pub fn to_value(self) -> Value {
        match self {
            ValueRef::Str(v) => Value::Str(v.to_value()),
            ValueRef::List(v) => Value::List(v.clone()),
            ValueRef::Set(v) => Value::Set(v.clone()),
            ValueRef::Zset(v) => Value::Zset(v.clone()),
            ValueRef::Hash(v) => Value::Hash(v.clone()),
            ValueRef::Stream(v) => Value::Stream(Box::new(v.clone())),
        }
    }

    /// Number of elements: about as many steps as it takes to free the value. 1 for a string, which is one allocation; of a stream its nodes.
    pub fn elements(self) -> usize {
        match self {
            ValueRef::Str(_) => 1,
            ValueRef::List(v) => v.len(),
            ValueRef::Set(v) => v.len(),
            ValueRef::Zset(v) => v.len(),
            ValueRef::Hash(v) => v.len(),
            ValueRef::Stream(v) => v.weight(),
        }
    }

    /// About the bytes of memory that a value takes beside its key's entry.
    pub fn memory(self) -> usize {
        match self {
            ValueRef::Str(_) => 0,
            ValueRef::List(v) => v.memory(),
            ValueRef::Set(v) => v.memory(),
            ValueRef::Zset(v) => v.memory(),
            ValueRef::Hash(v) => v.memory(),
            ValueRef::Stream(v) => size_of::<StreamValue>() + v.memory(),
        }
    }

    /// Adds the value to a digest, as `DEBUG DIGEST` does.
    pub fn digest(self, digest: &mut ValueDigest) {
        match self {
            ValueRef::Str(v) => digest.mix(&v.text()),
            ValueRef::List(v) => v.digest(digest),
            ValueRef::Set(v) => v.digest(digest),
            ValueRef::Zset(v) => v.digest(digest),
            ValueRef::Hash(v) => v.digest(digest),
            ValueRef::Stream(v) => v.digest(digest),
        }
    }
}

/// What the keyspace needs to know of the type of a value that lives behind a pointer.
pub trait DataType: Clone + Sized + 'static {
    /// Which type it is.
    const TYPE: Type;

    /// `OBJECT ENCODING`.
    fn encoding(&self) -> &'static str;

    /// Number of elements. A key whose value has none must be deleted by the command that emptied it, but for a stream.
    fn len(&self) -> usize;

    /// Whether there are no elements.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frees up to so many elements of a value that nobody will look at any more: it is then fit for nothing but more of this, and
    /// to be dropped. Whether there is more.
    fn discard(&mut self, elements: usize) -> bool;

    /// Adds the content to a digest: equal content gives an equal digest whatever the encoding and, for sets, hashes
    /// and sorted sets, whatever the internal order.
    fn digest(&self, digest: &mut ValueDigest);

    /// The value as this type, if it is.
    fn from_ref(value: ValueRef<'_>) -> Option<&Self>;

    /// The stored value as this type, if it is.
    fn from_mut(value: ValueMut<'_>) -> Option<&mut Self>;

    /// As a value to be stored.
    fn into_value(self) -> Value;
}

macro_rules! data_type_views {
    ($variant:ident) => {
        fn from_ref(value: $crate::value::ValueRef<'_>) -> Option<&Self> {
            match value {
                $crate::value::ValueRef::$variant(v) => Some(v),
                _ => None,
            }
        }

        fn from_mut(value: $crate::value::ValueMut<'_>) -> Option<&mut Self> {
            match value {
                $crate::value::ValueMut::$variant(v) => Some(v),
                _ => None,
            }
        }

        fn into_value(self) -> $crate::value::Value {
            $crate::value::Value::$variant(self.into())
        }
    };
}
pub(crate) use data_type_views;
