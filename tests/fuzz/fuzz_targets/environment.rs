#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgweir_tests::fuzz::environment(bytes));
