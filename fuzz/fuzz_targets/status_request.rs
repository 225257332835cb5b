//! Requests to the status helper, in any pieces: see `src/fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| prefork_server::fuzzing::status_request(data));
