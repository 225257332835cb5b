//! The control socket with anything sent to it: see `src/fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| prefork_server::fuzzing::control(data));
