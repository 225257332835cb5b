//! Headers in every split, and what is no header.

use super::*;

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, rest].concat()
}

fn headers() -> Vec<Vec<u8>> {
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_LONGEST - 16));
    let mut headers: Vec<Vec<u8>> = [
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP6 ::1 ::2 65535 1\r\n",
        "PROXY UNKNOWN\r\n",
        &longest,
    ]
    .map(|line| line.as_bytes().to_vec())
    .into();
    headers.push(v2(0x20, 0x00, &[]));
    headers.push(v2(0x21, 0x11, &[1; 12]));
    headers.push(v2(0x21, 0x21, &[1; 300]));
    headers.push(v2(0x21, 0x31, &vec![1; V2_LONGEST - V2_FIXED]));
    headers
}

/// What is taken of `stream` if it comes in pieces that are cut at `cuts`.
fn taken(stream: &[u8], cuts: &[usize]) -> HeaderReader {
    let mut reader = HeaderReader::default();
    let ends = cuts.iter().copied().chain([stream.len()]);
    let mut begin = 0;
    for end in ends {
        let piece = &stream[begin..end];
        let count = reader.take(piece).expect("a header");
        if count < piece.len() {
            break;
        }
        begin = end;
    }
    reader
}

#[test]
fn a_header_ends_at_its_last_byte_however_it_comes() {
    for header in headers() {
        let stream = [&header[..], b"\r\nGET /\r\n"].concat();
        let bytewise: Vec<usize> = (1..stream.len()).collect();
        let in_two = (0..stream.len().min(400)).map(|cut| vec![cut]);
        for cuts in in_two.chain([bytewise]) {
            let reader = taken(&stream, &cuts);
            assert!(reader.is_whole());
            assert_eq!(reader.bytes(), header);
        }
    }
}

#[test]
fn a_header_is_not_whole_before_its_last_byte() {
    for header in headers() {
        let part = &header[..header.len() - 1];
        let mut reader = HeaderReader::default();
        assert_eq!(reader.take(part), Ok(part.len()));
        assert!(!reader.is_whole());
        assert_eq!(reader.take(b""), Ok(0));
        assert_eq!(reader.take(&header[part.len()..]), Ok(1));
        assert!(reader.is_whole());
    }
}

/// How many bytes are taken before the stream is known not to be a header.
fn refused_after(stream: &[u8]) -> Option<usize> {
    let mut reader = HeaderReader::default();
    (1..=stream.len()).find(|&end| reader.take(&stream[end - 1..end]).is_err())
}

#[test]
fn what_is_no_header_is_refused_as_soon_as_it_shows() {
    let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_LONGEST - 15));
    let huge = v2(0x21, 0x11, &vec![0; V2_LONGEST - V2_FIXED + 1]);
    let cases: [(&[u8], usize); 14] = [
        (b"GET / HTTP/1.1\r\n", 1),
        (b"PRI * HTTP/2.0\r\n", 3),
        (b"PROXYTCP4", 6),
        (b"proxy TCP4", 1),
        (b"PROXY TCP4 1\nx", 13),
        (b"PROXY TCP4 1\rx", 14),
        (b"PROXY UNKNOWN\r\r\n", 15),
        (too_long.as_bytes(), V1_LONGEST),
        (b"\0", 1),
        (b"\x16\x03\x01", 1),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
        (b"\r\n\r\n\0\r\nQUIT\n\x11", 13),
        (b"\r\n\r\n\0\r\nQUIT\n\x22", 13),
        (&huge, 16),
    ];
    for (stream, after) in cases {
        let text = String::from_utf8_lossy(stream);
        assert_eq!(refused_after(stream), Some(after), "{text:?}");
    }
}
