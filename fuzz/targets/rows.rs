//! libFuzzer on the target `rows` of `dh_store::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dh_store::fuzz::run("rows", bytes));
