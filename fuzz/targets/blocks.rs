//! libFuzzer on the target `blocks` of `dh_store::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dh_store::fuzz::run("blocks", bytes));
