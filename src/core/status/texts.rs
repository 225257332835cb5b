//! What a record has in texts: the attributes, the listeners, the program's metrics. Packs and
//! unpacks; the values come from the caller.

use super::pack::{Packer, Unpacker};
use crate::core::{
    config::Config,
    metrics::{Declared, INTEGERS, SUMS},
};

/// A socket that the server listens on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ListenerText {
    pub(crate) name: String,
    /// How many connections waited when it was last looked at, if that is known.
    pub(crate) queued: Option<u32>,
    /// How many can wait, if that is known.
    pub(crate) limit: Option<u32>,
}

/// The texts of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RecordTexts {
    /// The values of the attributes in force, in the order of [`Config::attributes`].
    pub(crate) attributes: Vec<String>,
    pub(crate) listeners: Vec<ListenerText>,
    pub(crate) metrics: Vec<Declared>,
}

impl RecordTexts {
    pub(crate) fn attributes_of(config: &Config) -> Vec<String> {
        let rows = Config::attributes().iter();
        rows.map(|row| row.text(config)).collect()
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        packer.number(self.attributes.len() as u64);
        for attribute in &self.attributes {
            packer.text(attribute);
        }
        packer.number(self.listeners.len() as u64);
        for listener in &self.listeners {
            packer.text(&listener.name);
            for known in [listener.queued, listener.limit] {
                packer.number(known.map_or(0, |number| u64::from(number) + 1));
            }
        }
        packer.number(self.metrics.len() as u64);
        for metric in &self.metrics {
            pack_metric(metric, &mut packer);
        }
        packer.0
    }

    pub(crate) fn unpack(bytes: &[u8]) -> Self {
        let mut unpacker = Unpacker(bytes);
        Self {
            attributes: unpacker.list(Unpacker::text),
            listeners: unpacker.list(unpack_listener),
            metrics: unpacker.list(unpack_metric),
        }
    }
}

fn unpack_listener(unpacker: &mut Unpacker<'_>) -> Option<ListenerText> {
    let name = unpacker.text()?;
    let [queued, limit] = [unpacker.number()?, unpacker.number()?];
    let known = |word: u64| u32::try_from(word.checked_sub(1)?).ok();
    Some(ListenerText {
        name,
        queued: known(queued),
        limit: known(limit),
    })
}

fn pack_metric(metric: &Declared, packer: &mut Packer) {
    packer.text(&metric.name);
    packer.number(metric.first as u64);
    packer.number(metric.sum.map_or(0, |sum| sum as u64 + 1));
    packer.number(metric.bounds.len() as u64);
    for bound in &metric.bounds {
        packer.number(bound.to_bits());
    }
}

/// A metric whose numbers would lie outside of their rows is left out, with all that follows.
fn unpack_metric(unpacker: &mut Unpacker<'_>) -> Option<Declared> {
    let name = unpacker.text()?;
    let number = |unpacker: &mut Unpacker<'_>| usize::try_from(unpacker.number()?).ok();
    let first = number(unpacker)?;
    let sum = number(unpacker)?.checked_sub(1);
    let bounds = unpacker.list(|unpacker| unpacker.number().map(f64::from_bits));
    let last = first.checked_add(bounds.len())?;
    let fits = last < INTEGERS && sum.is_none_or(|sum| sum < SUMS);
    fits.then_some(Declared {
        name,
        first,
        sum,
        bounds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_packed_is_read() {
        let listener = |name: &str, queued| ListenerText {
            name: name.to_owned(),
            queued,
            limit: Some(128),
        };
        let counter = Declared {
            name: "pages".to_owned(),
            first: 0,
            sum: None,
            bounds: Vec::new(),
        };
        let histogram = Declared {
            name: "seconds".to_owned(),
            first: 1,
            sum: Some(0),
            bounds: vec![0.5, 1.0],
        };
        let texts = RecordTexts {
            attributes: RecordTexts::attributes_of(&Config::default()),
            listeners: vec![listener("127.0.0.1:80", Some(0)), listener("/s", None)],
            metrics: vec![counter, histogram],
        };
        assert_eq!(RecordTexts::unpack(&texts.pack()), texts);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            for metric in RecordTexts::unpack(&bytes).metrics {
                prop_assert!(metric.first + metric.bounds.len() < INTEGERS);
            }
        }
    }
}
