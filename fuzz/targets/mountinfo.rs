#![no_main]
#![expect(missing_docs, reason = "see `mountgate::parsers`")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mountgate_fuzz::run("mountinfo", data));
