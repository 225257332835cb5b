//! Writes JSON. Knows nothing of servers.

use std::{fmt::Write, net::SocketAddr, time::Duration};

/// A text in JSON that grows. The commas are put where they belong.
#[derive(Debug, Default)]
pub(crate) struct JsonWriter {
    text: String,
}

impl JsonWriter {
    /// The text of an object.
    pub(crate) fn of(fill: impl FnOnce(&mut Self)) -> String {
        let mut json = Self::default();
        json.braces('{', '}', fill);
        json.text
    }

    fn braces(&mut self, open: char, close: char, fill: impl FnOnce(&mut Self)) {
        self.text.push(open);
        fill(self);
        self.text.push(close);
    }

    fn begin(&mut self) {
        if !self.text.ends_with(['{', '[', ':']) {
            self.text.push(',');
        }
    }

    fn key(&mut self, key: &str) {
        self.begin();
        key.write(&mut self.text);
        self.text.push(':');
    }

    /// A key with a value.
    pub(crate) fn field(&mut self, key: &str, value: impl ToJson) {
        self.key(key);
        value.write(&mut self.text);
    }

    /// A key with an object.
    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key);
        self.braces('{', '}', fill);
    }

    /// A key with an array of values.
    pub(crate) fn values<V: ToJson>(&mut self, key: &str, values: impl IntoIterator<Item = V>) {
        self.key(key);
        self.braces('[', ']', |json| {
            for value in values {
                json.begin();
                value.write(&mut json.text);
            }
        });
    }

    /// A key with an array of objects, one for each item.
    pub(crate) fn objects<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) {
        self.key(key);
        self.braces('[', ']', |json| {
            for item in items {
                json.begin();
                json.braces('{', '}', |json| fill(json, item));
            }
        });
    }
}

/// What JSON can say.
pub(crate) trait ToJson {
    fn write(&self, text: &mut String);
}

impl ToJson for &str {
    fn write(&self, text: &mut String) {
        text.push('"');
        for char in self.chars() {
            match char {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                // Also what ends a line in JavaScript, and what begins a tag.
                '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '<' => {
                    let _ = write!(text, "\\u{:04x}", u32::from(char));
                }
                _ => text.push(char),
            }
        }
        text.push('"');
    }
}

impl ToJson for String {
    fn write(&self, text: &mut String) {
        self.as_str().write(text);
    }
}

/// A text that is JSON already.
#[cfg(any(test, feature = "status"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a>(pub(crate) &'a str);

#[cfg(any(test, feature = "status"))]
impl ToJson for Raw<'_> {
    fn write(&self, text: &mut String) {
        text.push_str(self.0);
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl ToJson for $type {
            fn write(&self, text: &mut String) {
                let _ = write!(text, "{self}");
            }
        }
    )*};
}
numbers!(bool, i32, u32, u64, usize);

/// There is no JSON for infinity.
impl ToJson for f64 {
    fn write(&self, text: &mut String) {
        if self.is_finite() {
            let _ = write!(text, "{self}");
        } else {
            text.push_str("null");
        }
    }
}

/// In seconds, to the microsecond.
impl ToJson for Duration {
    fn write(&self, text: &mut String) {
        let _ = write!(text, "{}", self.as_secs());
        let micros = self.subsec_micros();
        if micros > 0 {
            let fraction = format!(".{micros:06}");
            text.push_str(fraction.trim_end_matches('0'));
        }
    }
}

impl ToJson for SocketAddr {
    fn write(&self, text: &mut String) {
        let _ = write!(text, "\"{self}\"");
    }
}

impl<V: ToJson> ToJson for Option<V> {
    fn write(&self, text: &mut String) {
        match self {
            Some(value) => value.write(text),
            None => text.push_str("null"),
        }
    }
}

#[cfg(test)]
mod tests;
