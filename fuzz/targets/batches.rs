//! libFuzzer on the target `batches` of `dh_gateway::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dh_gateway::fuzz::run("batches", bytes));
