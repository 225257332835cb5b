//! The lines of an access log: one for a connection, in two forms. What comes from outside is
//! escaped, so a line is one line of printable text, and never longer than what a pipe takes whole.

use super::{ConnEnd, date::Date, kept_text};
use std::{
    fmt::{self, Write},
    time::Duration,
};

/// No line is longer than that, its end included: PIPE_BUF of Linux, which is written to a pipe as a
/// whole.
#[cfg(test)]
const LONGEST_LINE: usize = 4096;

impl ConnEnd {
    /// A line in the form of the Common Log Format, with more fields after it.
    ///
    /// It has no end of line.
    ///
    /// ```text
    /// 192.0.2.1 - - [29/Nov/2026:12:03:07 +0000] "GET /" served 4567 received=78 queued=0.004 took=0.012001 port=51234 pid=4711 number=3
    /// ```
    ///
    /// In place of the user stands the number of the client's user, over a UNIX socket; in place of
    /// a status the [`Outcome`](super::Outcome); times are in seconds; what is unknown is `-`. In
    /// the text, a quote, a backslash and whatever is not printable ASCII is `\xHH`.
    pub fn common_line(&self) -> String {
        let ip = self.peer.map(|peer| peer.ip());
        let port = self.peer.map(|peer| peer.port());
        let date = Date::new(self.began).common();
        format!(
            "{} - {} [{date}] \"{}\" {} {} received={} queued={} took={} port={} pid={} number={}",
            OrPlaceholder(ip, "unix"),
            OrPlaceholder(self.user, "-"),
            Escaped(kept_text(&self.text)),
            self.outcome,
            OrPlaceholder(self.sent, "-"),
            OrPlaceholder(self.received, "-"),
            OrPlaceholder(self.queued.map(Seconds), "-"),
            Seconds(self.took),
            OrPlaceholder(port, "-"),
            self.pid,
            self.number
        )
    }

    /// A line of JSON, one object; without its end.
    ///
    /// ```text
    /// {"time":"2026-11-29T12:03:07.123Z","peer":"192.0.2.1:51234","user":null,"queued":0.004000,"took":0.012001,"received":78,"sent":4567,"outcome":"served","text":"GET /","pid":4711,"number":3}
    /// ```
    ///
    /// Times are in seconds; what is unknown is `null`.
    pub fn json_line(&self) -> String {
        let time = Date::new(self.began).rfc3339();
        let peer = self.peer.map(|peer| format!("\"{peer}\""));
        format!(
            "{{\"time\":\"{time}\",\"peer\":{},\"user\":{},\"queued\":{},\"took\":{},\
             \"received\":{},\"sent\":{},\"outcome\":\"{}\",\"text\":\"{}\",\"pid\":{},\
             \"number\":{}}}",
            OrPlaceholder(peer, "null"),
            OrPlaceholder(self.user, "null"),
            OrPlaceholder(self.queued.map(Seconds), "null"),
            Seconds(self.took),
            OrPlaceholder(self.received, "null"),
            OrPlaceholder(self.sent, "null"),
            self.outcome,
            JsonEscaped(kept_text(&self.text)),
            self.pid,
            self.number
        )
    }
}

/// The value, or what stands for none.
struct OrPlaceholder<T>(Option<T>, &'static str);

impl<T: fmt::Display> fmt::Display for OrPlaceholder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(self.1),
        }
    }
}

/// With a fraction in microseconds.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

/// As web servers escape what clients have sent.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'"' | b'\\' => write!(f, "\\x{byte:02X}"),
            b' '..=b'~' => f.write_char(char::from(byte)),
            _ => write!(f, "\\x{byte:02X}"),
        })
    }
}

/// As JSON escapes text. Control characters beyond those that JSON forbids are escaped too: a
/// terminal may obey them.
struct JsonEscaped<'a>(&'a str);

impl fmt::Display for JsonEscaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '"' => f.write_str("\\\""),
            '\\' => f.write_str("\\\\"),
            '\u{2028}' | '\u{2029}' => write!(f, "\\u{:04x}", u32::from(char)),
            _ if char.is_control() => write!(f, "\\u{:04x}", u32::from(char)),
            _ => f.write_char(char),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{accept::refusal::Refusal, conn_end::Outcome};
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn usual() -> ConnEnd {
        ConnEnd {
            began: Duration::from_millis(1_795_953_787_123),
            peer: "192.0.2.1:51234".parse().ok(),
            queued: Some(Duration::from_millis(4)),
            took: Duration::from_micros(12_001),
            received: Some(78),
            sent: Some(4567),
            text: "GET /".to_owned(),
            pid: 4711,
            number: 3,
            ..ConnEnd::default()
        }
    }

    #[test]
    fn a_line_tells_all() {
        assert_eq!(
            usual().common_line(),
            "192.0.2.1 - - [29/Nov/2026:12:03:07 +0000] \"GET /\" served 4567 received=78 \
             queued=0.004000 took=0.012001 port=51234 pid=4711 number=3"
        );
        assert_eq!(
            usual().json_line(),
            "{\"time\":\"2026-11-29T12:03:07.123Z\",\"peer\":\"192.0.2.1:51234\",\"user\":null,\
             \"queued\":0.004000,\"took\":0.012001,\"received\":78,\"sent\":4567,\
             \"outcome\":\"served\",\"text\":\"GET /\",\"pid\":4711,\"number\":3}"
        );
    }

    #[test]
    fn what_is_unknown_has_a_sign_of_its_own() {
        let end = ConnEnd {
            peer: None,
            user: Some(1000),
            queued: None,
            received: None,
            sent: None,
            outcome: Outcome::Refused(Refusal::TooOld),
            ..usual()
        };
        let common = end.common_line();
        assert!(common.starts_with("unix - 1000 [29/"), "{common}");
        let rest = "\"GET /\" shed - received=- queued=- took=0.012001 port=- pid=4711 number=3";
        assert!(common.ends_with(rest), "{common}");
        let json = end.json_line();
        for part in [
            "\"peer\":null,\"user\":1000,\"queued\":null",
            "\"received\":null,\"sent\":null,\"outcome\":\"shed\"",
        ] {
            assert!(json.contains(part), "{json}");
        }
    }

    #[test]
    fn each_outcome_has_a_word_of_its_own() {
        let refused = Refusal::ALL.map(Outcome::Refused);
        let others = [
            Outcome::Served,
            Outcome::Lost,
            Outcome::Failed,
            Outcome::Panicked,
            Outcome::NoHeader,
        ];
        let all = refused.into_iter().chain(others);
        let words: Vec<_> = all.map(|outcome| outcome.to_string()).collect();
        let different: std::collections::BTreeSet<_> = words.iter().collect();
        assert_eq!(different.len(), words.len(), "{words:?}");
        let is_word = |word: &String| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        };
        assert!(words.iter().all(is_word), "{words:?}");
    }

    #[test]
    fn a_hostile_text_stays_a_text() {
        let text = "a\" 200\n\\\u{1b}[2Jé\u{9b}\u{2028}";
        let end = ConnEnd {
            text: text.to_owned(),
            ..usual()
        };
        let common = end.common_line();
        let escaped = "\"a\\x22 200\\x0A\\x5C\\x1B[2J\\xC3\\xA9\\xC2\\x9B\\xE2\\x80\\xA8\" served";
        assert!(common.contains(escaped), "{common}");
        let json = end.json_line();
        let escaped = "\"text\":\"a\\\" 200\\u000a\\\\\\u001b[2Jé\\u009b\\u2028\",";
        assert!(json.contains(escaped), "{json}");
    }

    fn any_end() -> impl Strategy<Value = ConnEnd> {
        let text = prop_oneof![
            ".*",
            "[\\x00-\\x1f]{0,900}",
            "[\"\\\\]{500,600}",
            "é{200,300}"
        ];
        let counts: (BoxedStrategy<Option<u64>>, BoxedStrategy<Option<u64>>) =
            (any::<Option<u64>>().boxed(), any::<Option<u64>>().boxed());
        let times = any::<(Duration, Option<Duration>, Duration)>();
        let peer = any::<(Option<SocketAddr>, Option<u32>, u32, u64)>();
        (text, counts, times, peer).prop_map(|(text, counts, times, peer)| ConnEnd {
            began: times.0,
            peer: peer.0,
            user: peer.1,
            queued: times.1,
            took: times.2,
            received: counts.0,
            sent: counts.1,
            outcome: Outcome::NoHeader,
            text,
            pid: peer.2,
            number: peer.3,
        })
    }

    /// What JSON allows in a text, read by hand.
    fn text_of(json: &str) -> String {
        let (_, rest) = json.split_once("\"text\":\"").unwrap();
        let mut text = String::new();
        let mut chars = rest.chars();
        loop {
            match chars.next().unwrap() {
                '"' => return text,
                '\\' => match chars.next().unwrap() {
                    'u' => {
                        let code: String = chars.by_ref().take(4).collect();
                        let code = u32::from_str_radix(&code, 16).unwrap();
                        text.push(char::from_u32(code).unwrap());
                    }
                    char => text.push(char),
                },
                char => text.push(char),
            }
        }
    }

    proptest! {
        #[test]
        fn any_line_is_one_line_that_a_pipe_takes_whole(end in any_end()) {
            for line in [end.common_line(), end.json_line()] {
                prop_assert!(line.len() < LONGEST_LINE, "{}", line.len());
                prop_assert!(!line.contains(char::is_control));
            }
            prop_assert_eq!(end.common_line().matches('"').count(), 2);
        }

        #[test]
        fn the_text_comes_back_from_json(end in any_end()) {
            prop_assert_eq!(text_of(&end.json_line()), kept_text(&end.text));
        }
    }
}
