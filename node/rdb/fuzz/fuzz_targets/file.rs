//! RDB files, fed in chunks whose size is the first byte.
#![no_main]

use holdfast_rdb::{Event, RdbReader, ReadOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((chunk, file)) = data.split_first() else {
        return;
    };
    let mut reader = RdbReader::with_options(ReadOptions {
        relaxed: true,
        checksum: false,
        skip_modules: chunk & 1 == 1,
        ..ReadOptions::default()
    });
    for part in file.chunks(usize::from(*chunk).max(1)) {
        reader.feed(part);
        loop {
            match reader.poll() {
                Ok(Some(Event::Key { value, .. })) => {
                    value.as_ref().elements();
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(e) => {
                    assert!(e.offset <= file.len() as u64, "{e}");
                    return;
                }
            }
        }
    }
    // Short files are errors, and no more.
    let _ = reader.end_of_input();
});
