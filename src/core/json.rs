//! JSON on one line, written field by field. Parses nothing.

use std::{fmt::Write as _, time::Duration};

/// A value that can be written as JSON.
pub(crate) trait ToJson {
    /// Appends the value to `out`.
    fn to_json(&self, out: &mut String);
}

/// An object, to which fields are added in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Object {
    /// Without the closing brace.
    text: String,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self {
            text: "{".to_owned(),
        }
    }

    /// Adds a field. A name that is given twice is written twice.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl ToJson) -> Self {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        name.to_json(&mut self.text);
        self.text.push(':');
        value.to_json(&mut self.text);
        self
    }

    /// The whole object as text.
    pub(crate) fn into_text(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

impl ToJson for Object {
    fn to_json(&self, out: &mut String) {
        out.push_str(&self.text);
        out.push('}');
    }
}

/// Control characters are escaped, so that the text is one line and moves no cursor.
impl ToJson for str {
    fn to_json(&self, out: &mut String) {
        out.push('"');
        for char in self.chars() {
            match char {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                // All control characters are below U+10000, so one escape is enough.
                char if char.is_control() => {
                    // OK to ignore: writing to a `String` does not fail.
                    let _ = write!(out, "\\u{:04x}", u32::from(char));
                }
                char => out.push(char),
            }
        }
        out.push('"');
    }
}

impl ToJson for String {
    fn to_json(&self, out: &mut String) {
        self.as_str().to_json(out);
    }
}

/// In seconds, to the millisecond.
impl ToJson for Duration {
    fn to_json(&self, out: &mut String) {
        // OK to ignore: writing to a `String` does not fail.
        let _ = write!(out, "{:.3}", self.as_secs_f64());
    }
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl ToJson for $type {
            fn to_json(&self, out: &mut String) {
                out.push_str(&self.to_string());
            }
        }
    )*};
}
plain!(bool, i32, u32, u64, usize);

impl<T: ToJson + ?Sized> ToJson for &T {
    fn to_json(&self, out: &mut String) {
        (**self).to_json(out);
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self, out: &mut String) {
        match self {
            Some(value) => value.to_json(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self, out: &mut String) {
        out.push('[');
        for (at, value) in self.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            value.to_json(out);
        }
        out.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_object_is_written_on_one_line() {
        let inner = Object::new().with("pid", 7_u32);
        let object = Object::new()
            .with("ok", true)
            .with("name", "a \"b\"\\\n\u{1b}[0m\u{9b}")
            .with("took", Duration::from_micros(1_234_567))
            .with("none", None::<u64>)
            .with("children", vec![inner.clone(), inner])
            .with("empty", Object::new());
        assert_eq!(
            object.into_text(),
            r#"{"ok":true,"name":"a \"b\"\\\n\u001b[0m\u009b","took":1.235,"none":null,"#
                .to_owned()
                + r#""children":[{"pid":7},{"pid":7}],"empty":{}}"#
        );
    }

    /// Reads a string as a parser of JSON does.
    fn unescaped(json: &str) -> Option<String> {
        let mut text = String::new();
        let mut chars = json.strip_prefix('"')?.strip_suffix('"')?.chars();
        while let Some(char) = chars.next() {
            match (char, char.is_control()) {
                ('"', _) | (_, true) => return None,
                ('\\', _) => match chars.next()? {
                    'n' => text.push('\n'),
                    'u' => {
                        let digits: String = chars.by_ref().take(4).collect();
                        text.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    other => text.push(other),
                },
                (char, _) => text.push(char),
            }
        }
        Some(text)
    }

    proptest! {
        #[test]
        fn every_text_is_read_back(text in any::<String>()) {
            let mut json = String::new();
            text.to_json(&mut json);
            prop_assert_eq!(unescaped(&json), Some(text));
        }
    }
}
