//! The framer of the children's outputs, with any words, in any pieces: see `src/fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| prefork_server::fuzzing::framer(data));
