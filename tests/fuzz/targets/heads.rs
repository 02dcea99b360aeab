//! Heads of requests and answers of HTTP/1.1.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway::fuzzing::heads(data));
