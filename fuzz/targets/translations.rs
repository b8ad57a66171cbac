//! libFuzzer on the target `translations` of `dh_gateway::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dh_gateway::fuzz::run("translations", bytes));
