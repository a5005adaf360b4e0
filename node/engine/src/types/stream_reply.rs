//! Parts of replies that the commands of streams share.

use super::stream_id::StreamId;
use super::stream_node::{Entry, Fields};
use holdfast_resp::write;

/// An id as a string.
#[inline]
pub(super) fn id(out: &mut Vec<u8>, id: StreamId) {
    write::bulk(out, id.text().as_ref());
}

/// An entry: its id, and its fields and values. Returns where reading its fields has ended.
#[inline]
pub(super) fn entry<'a>(out: &mut Vec<u8>, entry: &Entry<'a>) -> Fields<'a> {
    let mut fields = entry.fields();
    write::array(out, 2);
    id(out, entry.id);
    write::array(out, fields.len() * 2);
    for (name, value) in fields.by_ref() {
        write::bulk(out, name.bytes(&mut None));
        write::bulk(out, value.bytes(&mut None));
    }
    fields
}

/// An array whose length is known only behind it: `body` writes the elements and returns their number. A good `guess` spares
/// moving them.
pub(super) fn counted(out: &mut Vec<u8>, guess: usize, body: impl FnOnce(&mut Vec<u8>) -> usize) {
    let start = out.len();
    write::array(out, guess);
    let behind = out.len();
    let n = body(out);
    if n != guess {
        out.drain(start..behind);
        insert_array(out, start, n);
    }
}

/// Puts the header of an array before elements that have been written already, from `at` on.
pub(super) fn insert_array(out: &mut Vec<u8>, at: usize, len: usize) {
    let mut header = Vec::new();
    write::array(&mut header, len);
    out.splice(at..at, header);
}
