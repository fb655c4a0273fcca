//! Headers of the PROXY protocol: whole and in pieces they read the same, within their bounds, and what they say is read again as written.
#![no_main]

use daemun_config::model::ProxyVersion;
use daemun_dataplane::proxy_protocol::{LONGEST_V2, Said, parse, push};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = parse(data);
    match whole {
        Ok(Some((length, said))) => {
            assert!(length <= data.len().min(LONGEST_V2), "a header is longer than what came, or than any may be");
            for cut in 0..length {
                assert_eq!(parse(&data[..cut]), Ok(None), "the beginning of a header is one, or is refused");
            }
            assert_eq!(parse(&data[..length]), whole, "what follows a header changes it");
            again(said);
        }
        Ok(None) => assert!(data.len() < LONGEST_V2, "more is asked for than a header may have"),
        Err(_) => assert_eq!(parse(&[data, b"\r\n"].concat()), whole, "what is refused is taken when more comes"),
    }
});

fn again(said: Said) {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut header = Vec::new();
        push(version, &said, &mut header);
        assert_eq!(parse(&header), Ok(Some((header.len(), said))));
    }
}
