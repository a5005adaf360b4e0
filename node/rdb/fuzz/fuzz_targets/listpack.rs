//! Listpacks: what is accepted can be walked both ways and is counted right.
#![no_main]

use holdfast_engine::types::listpack::Listpack;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(lp) = Listpack::from_bytes(data.to_vec()) {
        assert_eq!(lp.iter().count(), lp.len());
        let mut back = 0;
        let mut at = lp.last();
        while let Some(n) = at {
            back += 1;
            at = lp.prev(n);
        }
        assert_eq!(back, lp.len());
        let again = Listpack::from_bytes(lp.as_bytes().to_vec()).expect("ours");
        assert_eq!(again.as_bytes(), lp.as_bytes());
    }
});
