//! `DUMP` payloads: a type, a value, and any footer.
#![no_main]

use holdfast_engine::Value;
use holdfast_engine::digest::ValueDigest;
use holdfast_rdb::DumpCodec;
use libfuzzer_sys::fuzz_target;

fn digest(v: &Value) -> [u8; 20] {
    let mut d = ValueDigest::new();
    v.as_ref().digest(&mut d);
    d.0
}

fuzz_target!(|data: &[u8]| {
    let codec = DumpCodec {
        ignore_checksum: true,
        ..DumpCodec::default()
    };
    let payload = [data, &[11, 0], &[0; 8]].concat();
    if let Ok(value) = codec.decode(&payload) {
        let again = codec.encode(value.as_ref());
        let second = codec.decode(&again).expect("what we write, we read");
        assert_eq!(digest(&value), digest(&second));
    }
});
