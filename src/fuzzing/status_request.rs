//! Requests to the status helper: whatever a client sends and however it is cut, the same is found in
//! it, within bounds.

use super::FuzzInput;
use crate::observe::status::http::{HttpRequests, LONGEST_HEAD, Parsed};

/// Input: the sizes of the pieces, as a byte that counts them and a byte for each; the stream.
pub fn status_request(data: &[u8]) {
    let mut input = FuzzInput(data);
    let sizes = input.bytes();
    let stream = input.rest();
    let whole = verdicts(stream, std::iter::once(stream.len()));
    let in_pieces = verdicts(stream, sizes.iter().map(|size| usize::from(*size)));
    let bytewise = verdicts(stream, std::iter::repeat_n(1, stream.len()));
    assert_eq!(whole, in_pieces);
    assert_eq!(whole, bytewise);
    for verdict in whole {
        if let Parsed::Request(request) = verdict {
            assert!(!request.path.contains(['?', ' ', '\r', '\n']));
            assert!(request.path.len() + request.accept.len() <= LONGEST_HEAD);
        }
    }
}

/// All that is found, up to the first refusal.
fn verdicts(stream: &[u8], sizes: impl Iterator<Item = usize>) -> Vec<Parsed> {
    let (mut requests, mut found, mut rest) = (HttpRequests::default(), Vec::new(), stream);
    for size in sizes.chain([stream.len()]) {
        let (piece, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        requests.feed(piece);
        loop {
            match requests.next() {
                Parsed::More => break,
                refusal @ Parsed::Refuse(_) => {
                    found.push(refusal);
                    return found;
                }
                request @ Parsed::Request(_) => found.push(request),
            }
        }
    }
    found
}
