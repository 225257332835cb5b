//! Lines that are printed: no terminal obeys them, and all else is as it was written.

use super::*;

proptest! {
    /// Escaped text has no byte below 0x20, no DEL and no C1 control, whatever the input is.
    #[test]
    fn c11_escaped_text_cannot_command_a_terminal(bytes in terminal_bytes()) {
        let escaped = Line::whole(bytes).escaped();
        prop_assert!(!escaped.iter().any(|&byte| byte < 0x20 || byte == 0x7f));
        prop_assert!(!escaped.windows(2).any(is_c1));
    }

    #[test]
    fn escaping_leaves_everything_else_as_written(bytes in terminal_bytes()) {
        // All other bytes come out in order, once the escapes are removed.
        let mut expected = Vec::new();
        let mut rest = &bytes[..];
        while let Some(&byte) = rest.first() {
            let taken = if rest.len() > 1 && is_c1(&rest[..2]) {
                expected.extend(format!("\\u{{{:x}}}", rest[1]).bytes());
                2
            } else {
                match byte {
                    b'\t' => expected.extend(b"\\t"),
                    b'\n' => expected.extend(b"\\n"),
                    b'\r' => expected.extend(b"\\r"),
                    0..0x20 | 0x7f => expected.extend(format!("\\x{byte:02x}").bytes()),
                    _ => expected.push(byte),
                }
                1
            };
            rest = &rest[taken..];
        }
        prop_assert_eq!(Line::whole(bytes).escaped(), expected);
    }

    #[test]
    fn valid_utf8_stays_valid(text in any::<String>()) {
        let escaped = String::from_utf8(Line::whole(text.as_bytes()).escaped());
        prop_assert!(escaped.is_ok());
        let escaped = escaped.unwrap();
        prop_assert!(!escaped.chars().any(char::is_control), "{escaped:?}");
    }
}

fn is_c1(pair: &[u8]) -> bool {
    pair[0] == 0xc2 && (0x80..=0x9f).contains(&pair[1])
}

/// Bytes with many controls, lead bytes of C1, and bytes that may follow them.
fn terminal_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        2 => Just(0xc2u8),
        3 => 0x7e..0xa2u8,
        3 => 0..0x22u8,
        2 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..60)
}

#[test]
fn plain_text_is_not_escaped() {
    let text = "grüße, 世界 \\x1b \"'`".as_bytes();
    assert_eq!(Line::whole(text).escaped(), text);
    assert_eq!(
        Line::whole("a\x1b[2J\u{9b}2J\u{7f}").escaped(),
        b"a\\x1b[2J\\u{9b}2J\\x7f"
    );
}
