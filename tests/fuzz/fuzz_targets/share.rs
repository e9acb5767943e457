//! Shares, as their holders bring them: files and typed lines. What is read writes itself the same way, and no share of
//! one hand gives a secret.
#![no_main]

use hsm::shares::{Gathered, MAX_SHARE_BYTES, Share, SharesError, Typing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(share) = Share::parse(data) {
        assert!(data.len() <= MAX_SHARE_BYTES);
        let again = Share::parse(share.to_text().as_bytes());
        assert_eq!(again.as_ref(), Ok(&share));
        let mut gathered = Gathered::default();
        gathered.add(share.clone()).expect("the first of its set");
        assert_eq!(
            gathered.add(share.clone()),
            Err(SharesError::Twice {
                number: share.number()
            })
        );
        let missing = share.threshold() - 1;
        assert_eq!(gathered.combine(), Err(SharesError::TooFew { missing }));
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut typing = Typing::default();
    for line in text.lines() {
        let before = typing.next();
        if typing.line(line).is_err() {
            assert_eq!(typing.next(), before);
        }
    }
    let _ = typing.finish("root", "holder");
});
