//! The state that a program hands on in an upgrade, of any bytes: see `src/fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| prefork_server::fuzzing::state(data));
