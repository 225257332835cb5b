//! Texts and numbers in a row of bytes, and back. Any bytes can be read: what is cut off or wrong
//! reads as nothing.

/// The longest text.
const LONGEST: usize = u16::MAX as usize;

/// Packs values one after the other.
#[derive(Debug, Default)]
pub(crate) struct Packer(pub(crate) Vec<u8>);

impl Packer {
    pub(crate) fn number(&mut self, number: u64) {
        self.0.extend(number.to_ne_bytes());
    }

    /// A text; what is longer than 64 KiB is cut.
    pub(crate) fn text(&mut self, text: &str) {
        let mut end = text.len().min(LONGEST);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        // OK to cast: it is at most LONGEST.
        self.0.extend((end as u16).to_ne_bytes());
        self.0.extend(&text.as_bytes()[..end]);
    }
}

/// Reads what was packed, in the same order.
#[derive(Debug)]
pub(crate) struct Unpacker<'a>(pub(crate) &'a [u8]);

impl<'a> Unpacker<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let bytes = self.take(size_of::<u64>())?;
        bytes.try_into().ok().map(u64::from_ne_bytes)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let length = self.take(size_of::<u16>())?.try_into().ok()?;
        let bytes = self.take(u16::from_ne_bytes(length).into())?;
        String::from_utf8(bytes.to_owned()).ok()
    }

    /// As many values as a number says that stands before them, or as can be read.
    pub(crate) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Vec<T> {
        let count = self.number().unwrap_or(0);
        (0..count).map_while(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let mut packer = Packer::default();
        packer.text(&"é".repeat(LONGEST));
        packer.number(7);
        let mut unpacker = Unpacker(&packer.0);
        assert_eq!(unpacker.text().unwrap().len(), LONGEST - 1);
        assert_eq!(unpacker.number(), Some(7));
        assert_eq!(unpacker.text(), None);
    }

    proptest! {
        #[test]
        fn what_was_packed_is_read(texts in prop::collection::vec(".{0,20}", 0..8)) {
            let mut packer = Packer::default();
            packer.number(texts.len() as u64);
            texts.iter().for_each(|text| packer.text(text));
            prop_assert_eq!(Unpacker(&packer.0).list(Unpacker::text), texts);
        }

        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            let texts = Unpacker(&bytes).list(Unpacker::text);
            prop_assert!(texts.len() <= bytes.len());
        }
    }
}
