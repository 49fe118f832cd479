#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = tidegate::import::Model::from_safetensors(data, None); });
