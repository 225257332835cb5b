//! Reads JSON, to look into documents. Panics at what is no JSON.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Index;
use std::str::Chars;

#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Json {
    pub fn parse(text: &str) -> Self {
        let mut reader = Reader(text.chars().peekable());
        let json = reader.value();
        assert_eq!(reader.0.next(), None, "more after the document");
        json
    }

    #[track_caller]
    pub fn number(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("{other:?} is no number"),
        }
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    #[track_caller]
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            other => panic!("{other:?} is no list"),
        }
    }

    #[track_caller]
    pub fn object(&self) -> &BTreeMap<String, Self> {
        match self {
            Self::Object(object) => object,
            other => panic!("{other:?} is no object"),
        }
    }

    /// The object of a list with this number at this key.
    #[track_caller]
    pub fn with(&self, key: &str, number: u32) -> Option<&Self> {
        let mut items = self.list().iter();
        items.find(|item| item[key] == Self::Number(f64::from(number)))
    }
}

impl Index<&str> for Json {
    type Output = Self;

    #[track_caller]
    fn index(&self, key: &str) -> &Self {
        let found = self.object().get(key);
        found.unwrap_or_else(|| panic!("no {key:?} in {self:?}"))
    }
}

struct Reader<'a>(Peekable<Chars<'a>>);

impl Reader<'_> {
    fn expect(&mut self, text: &str) {
        for char in text.chars() {
            assert_eq!(self.0.next(), Some(char), "in {text:?}");
        }
    }

    fn value(&mut self) -> Json {
        match self.0.peek() {
            Some('{') => Json::Object(self.items('{', '}', Self::member).into_iter().collect()),
            Some('[') => Json::List(self.items('[', ']', Self::value)),
            Some('"') => Json::Text(self.text()),
            Some('n') => self.word("null", Json::Null),
            Some('t') => self.word("true", Json::Bool(true)),
            Some('f') => self.word("false", Json::Bool(false)),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Json {
        self.expect(word);
        value
    }

    fn items<T>(&mut self, open: char, close: char, item: fn(&mut Self) -> T) -> Vec<T> {
        self.expect(&open.to_string());
        let mut items = Vec::new();
        if self.0.next_if_eq(&close).is_some() {
            return items;
        }
        loop {
            items.push(item(self));
            match self.0.next() {
                Some(',') => {}
                found => {
                    assert_eq!(found, Some(close));
                    return items;
                }
            }
        }
    }

    fn member(&mut self) -> (String, Json) {
        let key = self.text();
        self.expect(":");
        (key, self.value())
    }

    fn text(&mut self) -> String {
        self.expect("\"");
        let mut text = String::new();
        loop {
            match self.0.next().expect("the end of a text") {
                '"' => return text,
                '\\' => text.push(self.escaped()),
                char => {
                    assert!(!char.is_control(), "{char:?} in a text");
                    text.push(char);
                }
            }
        }
    }

    fn escaped(&mut self) -> char {
        match self.0.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('u') => {
                let digits: String = self.0.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).unwrap();
                char::from_u32(code).unwrap()
            }
            Some(char @ ('"' | '\\')) => char,
            other => panic!("{other:?} is escaped"),
        }
    }

    fn number(&mut self) -> Json {
        let mut text = String::new();
        while let Some(char) = self
            .0
            .next_if(|char| char.is_ascii_digit() || "+-.eE".contains(*char))
        {
            text.push(char);
        }
        Json::Number(
            text.parse()
                .unwrap_or_else(|_| panic!("{text:?} is no number")),
        )
    }
}
