//! LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES with anything in them: see `src/fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| prefork_server::fuzzing::listen_fds(data));
