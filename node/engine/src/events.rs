//! Keyspace events: what happened to which key, for those who subscribe to `__keyspace@…__` and `__keyevent@…__`.
//!
//! A command reports an event with [`Call::notify`](crate::Call::notify) right where it happens. The server delivers what has gathered
//! after each command. While nobody listens, a report costs a load and a test.

use std::fmt;

/// A set of classes of events, as `notify-keyspace-events` names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventClass(u16);

/// Letters and classes, in the order in which the configuration shows them.
const LETTERS: [(u8, EventClass); 14] = [
    (b'g', EventClass::GENERIC),
    (b'$', EventClass::STRING),
    (b'l', EventClass::LIST),
    (b's', EventClass::SET),
    (b'h', EventClass::HASH),
    (b'z', EventClass::ZSET),
    (b'x', EventClass::EXPIRED),
    (b'e', EventClass::EVICTED),
    (b't', EventClass::STREAM),
    (b'd', EventClass::MODULE),
    (b'n', EventClass::NEW),
    (b'K', EventClass::KEYSPACE),
    (b'E', EventClass::KEYEVENT),
    (b'm', EventClass::KEY_MISS),
];

impl EventClass {
    /// No class.
    pub const NONE: EventClass = EventClass(0);
    /// `K`: not a class, but where to: channels by key.
    pub const KEYSPACE: EventClass = EventClass(1);
    /// `E`: not a class, but where to: channels by event.
    pub const KEYEVENT: EventClass = EventClass(1 << 1);
    /// `g`: commands on keys of any type.
    pub const GENERIC: EventClass = EventClass(1 << 2);
    /// `$`
    pub const STRING: EventClass = EventClass(1 << 3);
    /// `l`
    pub const LIST: EventClass = EventClass(1 << 4);
    /// `s`
    pub const SET: EventClass = EventClass(1 << 5);
    /// `h`
    pub const HASH: EventClass = EventClass(1 << 6);
    /// `z`
    pub const ZSET: EventClass = EventClass(1 << 7);
    /// `x`: a key or a field was deleted because its time had passed.
    pub const EXPIRED: EventClass = EventClass(1 << 8);
    /// `e`: a key was deleted to save memory.
    pub const EVICTED: EventClass = EventClass(1 << 9);
    /// `t`
    pub const STREAM: EventClass = EventClass(1 << 10);
    /// `m`: a read did not find its key. Not part of `A`.
    pub const KEY_MISS: EventClass = EventClass(1 << 11);
    /// `d`
    pub const MODULE: EventClass = EventClass(1 << 13);
    /// `n`: a key was created. Not part of `A`.
    pub const NEW: EventClass = EventClass(1 << 14);
    /// `A`: all but `n` and `m`.
    pub const ALL: EventClass = EventClass(
        Self::GENERIC.0
            | Self::STRING.0
            | Self::LIST.0
            | Self::SET.0
            | Self::HASH.0
            | Self::ZSET.0
            | Self::EXPIRED.0
            | Self::EVICTED.0
            | Self::STREAM.0
            | Self::MODULE.0,
    );

    /// The classes that a string names; `None` if a letter is none.
    pub fn parse(letters: &str) -> Option<EventClass> {
        letters.bytes().try_fold(EventClass::NONE, |all, letter| {
            let class = match letter {
                b'A' => EventClass::ALL,
                _ => LETTERS.iter().find(|(l, _)| *l == letter)?.1,
            };
            Some(all.and(class))
        })
    }

    /// The letters with none hidden, so that [`parse`](Self::parse) gives the same classes again.
    pub fn spelled_out(self) -> String {
        let shown = self.to_string();
        let hides = self.meets(Self::NEW) && !shown.contains('n');
        if hides { shown + "n" } else { shown }
    }

    /// Both sets.
    pub const fn and(self, other: EventClass) -> EventClass {
        EventClass(self.0 | other.0)
    }

    /// Whether the sets have a class in common.
    #[inline]
    pub const fn meets(self, other: EventClass) -> bool {
        self.0 & other.0 != 0
    }
}

/// As the configuration shows it: `A` stands for all its classes, and hides `n`.
impl fmt::Display for EventClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0 & Self::ALL.0 == Self::ALL.0;
        if all {
            f.write_str("A")?;
        }
        let hidden = Self::ALL.and(Self::NEW);
        for (letter, class) in LETTERS {
            if self.meets(class) && !(all && hidden.meets(class)) {
                write!(f, "{}", char::from(letter))?;
            }
        }
        Ok(())
    }
}

/// Events in the order in which they happened, stored back to back.
#[derive(Debug, Default)]
pub struct EventList {
    keys: Vec<u8>,
    list: Vec<(u16, &'static str, usize)>,
}

impl EventList {
    /// Adds an event of a key.
    pub fn push(&mut self, db: u16, name: &'static str, key: &[u8]) {
        self.keys.extend_from_slice(key);
        self.list.push((db, name, self.keys.len()));
    }

    /// Database, event and key of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'static str, &[u8])> {
        let starts = std::iter::once(0).chain(self.list.iter().map(|(_, _, end)| *end));
        self.list
            .iter()
            .zip(starts)
            .map(|((db, name, end), start)| (*db, *name, &self.keys[start..*end]))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_back() {
        let check = |given: &str, shown: &str| {
            let classes = EventClass::parse(given).map(|c| c.to_string());
            assert_eq!(classes.as_deref(), Some(shown), "{given}");
            let spelled_out = EventClass::parse(given).map(EventClass::spelled_out);
            let again = EventClass::parse(&spelled_out.unwrap_or_default());
            assert_eq!(again, EventClass::parse(given), "{given}");
        };
        check("", "");
        check("KEA", "AKE");
        check("g$lshzxetdKEm", "AKEm");
        check("mnKg", "gnKm");
        check("AnK", "AK");
        check("$lE", "$lE");
        assert_eq!(EventClass::parse("Kq"), None);
    }

    #[test]
    fn events_in_order() {
        let mut events = EventList::default();
        events.push(1, "set", b"ab");
        events.push(0, "del", b"");
        assert_eq!(
            events.iter().collect::<Vec<_>>(),
            [(1, "set", &b"ab"[..]), (0, "del", b"")]
        );
    }
}
