//! The exact form of version 1: one space between two words, and numbers without signs and leading
//! zeros. A lenient reader and a strict one could take the same line for two clients.

/// Whether a line that ends with CR and LF has the shape that the specification asks for. Addresses
/// are not looked at.
pub(crate) fn is_strict(line: &[u8]) -> bool {
    let Some(line) = line.strip_suffix(b"\r\n") else {
        return false;
    };
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    match words[..] {
        // What follows is ignored, as the specification asks.
        [b"PROXY", b"UNKNOWN", ..] => true,
        [b"PROXY", b"TCP4" | b"TCP6", _, _, from, to] => is_port(from) && is_port(to),
        _ => false,
    }
}

fn is_port(word: &[u8]) -> bool {
    let is_number = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    is_number && (word == b"0" || word[0] != b'0')
}

#[cfg(test)]
mod tests {
    use super::is_strict;

    #[test]
    fn a_line_has_six_words_and_plain_ports() {
        for right in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
            "PROXY TCP6 ::1 ::2 0 10\r\n",
            "PROXY UNKNOWN\r\n",
            "PROXY UNKNOWN ffff:f...f:ffff whatever\r\n",
        ] {
            assert!(is_strict(right.as_bytes()), "{right:?}");
        }
        for wrong in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY\r\n",
        ] {
            assert!(!is_strict(wrong.as_bytes()), "{wrong:?}");
        }
    }
}
