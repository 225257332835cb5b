//! The keys and values of a TOML file, with their lines. Knows no key and judges no value.

use super::error::{Problem, SettingsError, Source};
use std::path::Path;
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

/// What a file says about one key.
#[derive(Debug)]
pub(super) struct FileValue {
    pub(super) section: Option<String>,
    pub(super) name: String,
    pub(super) texts: Vec<String>,
    pub(super) source: Source,
}

/// A file that is being read.
struct FileReader<'a> {
    path: &'a Path,
    text: &'a str,
    found: Vec<FileValue>,
    problems: Vec<Problem>,
}

/// All keys of a file, in its order. Values that have no text are problems.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<FileValue>, SettingsError> {
    let mut reader = FileReader {
        path,
        text,
        found: Vec::new(),
        problems: Vec::new(),
    };
    match DeTable::parse(text) {
        Ok(table) => reader.read_table(None, table.get_ref()),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let what = match (error.message().trim(), text.get(span.clone())) {
                ("duplicate key", Some(key)) => format!("{} is there twice", key.trim()),
                (message, _) => format!("this is not TOML: {message}"),
            };
            reader.refuse(span.start, what);
        }
    }
    SettingsError::of(reader.problems)?;
    Ok(reader.found)
}

impl FileReader<'_> {
    fn read_table(&mut self, section: Option<&str>, table: &DeTable<'_>) {
        let mut items: Vec<_> = table.iter().collect();
        items.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in items {
            match (section, value.get_ref()) {
                (None, DeValue::Table(inner)) => self.read_table(Some(name.get_ref()), inner),
                _ => self.read_value(section, name, value),
            }
        }
    }

    fn read_value(
        &mut self,
        section: Option<&str>,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let texts = match value.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| text(item.get_ref())).collect(),
            one => text(one).map(|text| vec![text]),
        };
        match texts {
            Ok(texts) => self.found.push(FileValue {
                section: section.map(str::to_owned),
                name: name.get_ref().clone().into_owned(),
                texts,
                source: Source::file(self.path, Some(self.line(name.span().start))),
            }),
            Err(reason) => self.refuse(value.span().start, format!("{}: {reason}", name.get_ref())),
        }
    }

    fn refuse(&mut self, at: usize, message: String) {
        let source = Source::file(self.path, Some(self.line(at)));
        self.problems.push(Problem::new(source, message));
    }

    /// The line of a byte, counted from 1.
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        before.filter(|byte| **byte == b'\n').count() + 1
    }
}

/// A value as the text that a flag would have.
fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Integer(number) => integer(number),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Table(table) => options(table),
        DeValue::Datetime(_) => Err("a date is no value here".to_owned()),
        DeValue::Array(_) => Err("a list in a list is no value here".to_owned()),
    }
}

/// In decimal digits; an octal number stays one, for a mask.
fn integer(number: &DeInteger<'_>) -> Result<String, String> {
    if number.radix() == 8 {
        return Ok(format!("0o{}", number.as_str()));
    }
    let value = i128::from_str_radix(number.as_str(), number.radix());
    let value = value.map_err(|_| format!("{} is too large", number.as_str()))?;
    Ok(value.to_string())
}

/// `{ address = "127.0.0.1:80", name = "http" }` is `127.0.0.1:80,name=http`. A comma in a value is one of
/// that value.
fn options(table: &DeTable<'_>) -> Result<String, String> {
    let mut address = None;
    let mut options = String::new();
    for (name, value) in table {
        let value = text(value.get_ref())?.replace(',', "\\,");
        match name.get_ref().as_ref() {
            "address" => address = Some(value),
            name => options.push_str(&format!(",{name}={value}")),
        }
    }
    let address = address.ok_or("a table needs an `address`")?;
    Ok(address + &options)
}
