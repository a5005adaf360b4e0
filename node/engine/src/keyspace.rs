//! The keyspace (being built: an ordered map for now).

use std::collections::BTreeMap;

use crate::value::{Value, ValueMut, ValueRef};

/// A key's value and what is known about it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub expire_at_ms: Option<u64>,
    pub version: u32,
    pub value: Value,
}

impl Entry {
    pub fn value(&self) -> ValueRef<'_> {
        self.value.as_ref()
    }

    pub fn value_mut(&mut self) -> ValueMut<'_> {
        match &mut self.value {
            Value::Str(_) => ValueMut::Str,
            Value::List(v) => ValueMut::List(v),
            Value::Set(v) => ValueMut::Set(v),
            Value::Zset(v) => ValueMut::Zset(v),
            Value::Hash(v) => ValueMut::Hash(v),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Db {
    pub map: BTreeMap<Box<[u8]>, Entry>,
}
