//! What the keyspace needs of each type, and how each goes into a digest (as in Valkey's `DEBUG DIGEST`).

use super::{HashValue, ListValue, SetValue, ZsetValue};
use crate::digest::ValueDigest;
use crate::value::{DataType, Type, data_type_views};
use holdfast_resp::number::format_shortest;

impl DataType for ListValue {
    const TYPE: Type = Type::List;

    fn encoding(&self) -> &'static str {
        self.encoding()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn discard(&mut self, elements: usize) -> bool {
        self.discard(elements)
    }

    fn digest(&self, digest: &mut ValueDigest) {
        for elem in self.iter() {
            digest.mix(elem.bytes(&mut None));
        }
    }

    data_type_views!(List);
}

impl DataType for SetValue {
    const TYPE: Type = Type::Set;

    fn encoding(&self) -> &'static str {
        self.encoding()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn discard(&mut self, elements: usize) -> bool {
        match self {
            SetValue::Table(table) => table.discard(elements),
            SetValue::Ints(_) | SetValue::Pack(_) => false,
        }
    }

    fn digest(&self, digest: &mut ValueDigest) {
        for elem in self.iter() {
            digest.xor(elem.bytes(&mut None));
        }
    }

    data_type_views!(Set);
}

impl DataType for ZsetValue {
    const TYPE: Type = Type::Zset;

    fn encoding(&self) -> &'static str {
        self.encoding()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn discard(&mut self, elements: usize) -> bool {
        self.discard(elements)
    }

    fn digest(&self, digest: &mut ValueDigest) {
        for (member, score) in self.iter() {
            let mut one = ValueDigest::new();
            one.mix(member.bytes(&mut None));
            one.mix(format_shortest(score).as_bytes());
            digest.xor(&one.0);
        }
    }

    data_type_views!(Zset);
}

impl DataType for HashValue {
    const TYPE: Type = Type::Hash;

    fn encoding(&self) -> &'static str {
        self.encoding()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn discard(&mut self, elements: usize) -> bool {
        self.discard(elements)
    }

    fn digest(&self, digest: &mut ValueDigest) {
        // Expired fields count: copies at the same position have the same ones.
        for (field, value, _) in self.iter() {
            let mut one = ValueDigest::new();
            one.mix(field.bytes(&mut None));
            one.mix(value.bytes(&mut None));
            digest.xor(&one.0);
        }
    }

    data_type_views!(Hash);
}
