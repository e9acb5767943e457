//! The configuration file: no text makes its reader panic, and what it refuses it refuses with the keys' paths.
#![no_main]

use std::collections::BTreeMap;

use ca_server::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Config::parse(text, &BTreeMap::new()) {
        Ok(config) => assert!(!config.describe().is_empty()),
        Err(faults) => assert!(!faults.0.is_empty(), "refused without a fault"),
    }
});
