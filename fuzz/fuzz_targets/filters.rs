//! The filters of a connection, in any order, with any limit, in any pieces: see `src/fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| prefork_server::fuzzing::filters(data));
