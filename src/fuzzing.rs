//! Properties that must hold for any bytes. The fuzz targets under `fuzz/` call them with a
//! fuzzer's input, and a test with the corpus. They panic if a property fails; they make no system
//! call.

mod control;
mod framer;
mod listen_fds;
#[cfg(feature = "proxy-protocol")]
mod proxy_header;
mod state;
#[cfg(feature = "status")]
mod status_request;

#[cfg(feature = "proxy-protocol")]
pub use self::proxy_header::proxy_header;
#[cfg(feature = "status")]
pub use self::status_request::status_request;
pub use self::{control::control, framer::framer, listen_fds::listen_fds, state::state};
pub use crate::servers::conn::segmentation::filters;

/// One input, from which choices and then data are read.
struct FuzzInput<'a>(&'a [u8]);

impl<'a> FuzzInput<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// As many bytes as the next byte says, or as are left.
    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.0.len());
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Calls `property` with each file of a target's corpus. A package has no corpus in it.
    fn each(target: &str, property: fn(&[u8])) {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        if !fuzz.exists() {
            return;
        }
        let entries = fs::read_dir(fuzz.join("corpus").join(target)).unwrap();
        let mut count = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            property(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count >= 10, "only {count} files in the corpus of {target}");
    }

    #[test]
    fn the_corpus_of_control_holds() {
        each("control", super::control);
    }

    #[test]
    fn the_corpus_of_framer_holds() {
        each("framer", super::framer);
    }

    #[test]
    fn the_corpus_of_filters_holds() {
        each("filters", super::filters);
    }

    #[test]
    fn the_corpus_of_listen_fds_holds() {
        each("listen_fds", super::listen_fds);
    }

    #[test]
    fn the_corpus_of_state_holds() {
        each("state", super::state);
    }

    #[cfg(feature = "proxy-protocol")]
    #[test]
    fn the_corpus_of_proxy_header_holds() {
        each("proxy_header", super::proxy_header);
    }

    #[cfg(feature = "status")]
    #[test]
    fn the_corpus_of_status_request_holds() {
        each("status_request", super::status_request);
    }
}
