//! The PROXY protocol: whatever a proxy sends and however it is cut, the same bytes are taken, they
//! are a prefix of the stream, and what a header says can be asked for.

use super::FuzzInput;
use crate::{
    core::proxy::{HeaderReader, Malformed, V2_LONGEST},
    servers::proxy::Proxied,
};
use proxy_header::{ParseConfig, ProxyHeader};

/// Input: the sizes of the pieces, as a byte that counts them and a byte for each; the stream.
pub fn proxy_header(data: &[u8]) {
    let mut input = FuzzInput(data);
    let sizes = input.bytes();
    let stream = input.rest();
    let whole = take(stream, std::iter::once(stream.len()));
    let in_pieces = take(stream, sizes.iter().map(|size| usize::from(*size)));
    let bytewise = take(stream, std::iter::repeat_n(1, stream.len()));
    assert_eq!(whole, in_pieces);
    assert_eq!(whole, bytewise);
    if let Ok(Some(header)) = whole {
        assert!(stream.starts_with(&header) && header.len() <= V2_LONGEST);
        check_header(&header, stream);
    }
}

/// The header that begins the stream; `None` if it does not end within it.
fn take(stream: &[u8], sizes: impl Iterator<Item = usize>) -> Result<Option<Vec<u8>>, Malformed> {
    let mut reader = HeaderReader::default();
    let mut rest = stream;
    for size in sizes.chain([stream.len()]) {
        let seen = &rest[..size.min(rest.len())];
        let taken = reader.take(seen)?;
        assert!(taken == seen.len() || reader.is_whole());
        rest = &rest[taken..];
    }
    Ok(reader.is_whole().then(|| reader.bytes().to_vec()))
}

fn check_header(header: &[u8], stream: &[u8]) {
    let Ok(proxied) = Proxied::read(header, None) else {
        return;
    };
    assert_eq!(proxied.source().is_some(), proxied.destination().is_some());
    assert_eq!(proxied.version() == 2, header[0] == b'\r');
    assert!(!(proxied.is_local() && proxied.source().is_some()));
    let asked = (proxied.tls(), proxied.authority(), proxied.alpn());
    let custom = (0..=u8::MAX).filter_map(|kind| proxied.tlv(kind));
    let length: usize = custom.map(<[u8]>::len).sum();
    assert!(length <= header.len(), "{asked:?}");
    // Where the header ends is not a matter of opinion, nor what it says.
    match ProxyHeader::parse(stream, ParseConfig::default()) {
        Ok((found, length)) => {
            assert_eq!(length, header.len());
            assert_eq!(
                found.proxied_address().is_some(),
                proxied.source().is_some()
            );
        }
        Err(_) => assert!(proxied.is_local()),
    }
}
