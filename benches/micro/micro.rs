//! The framer, the decisions about the pool, and the program's metrics, each alone: what is computed
//! without a system call; and the one call that a connection's time in the queue takes.
//! `cargo bench -p micro-benchmarks`; no process is started.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark that cannot be prepared ends"
)]

use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use prefork_server::{
    CommWords, Output, Time,
    internals::{Claims, Crowd, Framer, Title, count_as_a_child, time_in_queue},
    metrics,
};
use std::time::Duration;

/// Shows what allocates.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// What one read of the parent's may yield.
const READ: usize = 64 * 1024;

/// A read's worth of lines that are `from` to `to` bytes long, newline included.
fn lines(from: usize, to: usize) -> Vec<u8> {
    const TEXT: &[u8] = b"GET /index.html HTTP/1.1 200 1234 \"Mozilla/5.0 (X11; Linux x86_64)\" ";
    let mut bytes = Vec::with_capacity(READ);
    let mut lengths = (from..=to).cycle();
    while let Some(length) = lengths.next()
        && bytes.len() + length <= READ
    {
        bytes.extend(TEXT.iter().cycle().take(length - 1));
        bytes.push(b'\n');
    }
    bytes
}

/// Feeds `bytes`, in reads of that size, to a framer that has been used before.
fn feed(bencher: Bencher, bytes: &[u8], read: usize) {
    let mut framer = Framer::new(Some(CommWords::CONTROL));
    bencher
        .counter(BytesCount::of_slice(bytes))
        .bench_local(|| {
            for part in black_box(bytes).chunks(read) {
                framer.feed(part, |output| match output {
                    Output::Word(word) => drop(black_box(word)),
                    Output::Line(line) => drop(black_box(line.bytes().len())),
                });
            }
        });
}

mod queue {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    /// What a server with `queue_time` asks the kernel for each connection. The target is 1 µs.
    #[divan::bench]
    fn time_of_a_connection(bencher: Bencher) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (connection, _) = listener.accept().unwrap();
        bencher.bench_local(|| time_in_queue(black_box(&connection)));
    }
}

mod title {
    use super::*;

    /// What a connection costs a child that shows in ps what it does.
    #[divan::bench(args = ["192.0.2.1:9", "[2001:db8:1:2:3:4:5:6]:9"])]
    fn busy_and_free(bencher: Bencher, peer: &str) {
        let title = Title::new("micro");
        let peer = peer.parse().unwrap();
        bencher.bench_local(|| title.change(black_box(peer)));
    }
}

mod framer {
    use super::*;

    /// The target is 1 GB/s.
    #[divan::bench]
    fn ordinary_text(bencher: Bencher) {
        feed(bencher, &lines(80, 100), READ);
    }

    /// As pipes give it when a child flushes each line.
    #[divan::bench]
    fn ordinary_text_in_small_reads(bencher: Bencher) {
        feed(bencher, &lines(80, 100), 90);
    }

    #[divan::bench]
    fn short_lines(bencher: Bencher) {
        feed(bencher, &lines(2, 16), READ);
    }

    #[divan::bench]
    fn long_lines(bencher: Bencher) {
        feed(bencher, &lines(8000, 9000), READ);
    }

    /// Longer than a line may be: it is delivered in pieces.
    #[divan::bench]
    fn one_line_without_end(bencher: Bencher) {
        feed(bencher, &[b'x'; READ], READ);
    }

    /// BUSY and NOT_BUSY in turn, as the library writes them.
    #[divan::bench]
    fn words(bencher: Bencher) {
        feed(bencher, &b"\n\x13\n\n\x11\n".repeat(READ / 6), READ);
    }
}

const SIZES: [usize; 3] = [10, 100, 1000];

/// The target is 5 µs at 1,000 children.
mod plan {
    use super::*;

    #[divan::bench(args = SIZES)]
    fn census_and_plan(bencher: Bencher, children: usize) {
        let crowd = Crowd::new(children);
        bencher.bench_local(|| black_box(&crowd).plan(black_box(1)));
    }

    #[divan::bench(args = SIZES)]
    fn census(bencher: Bencher, children: usize) {
        let crowd = Crowd::new(children);
        bencher.bench_local(|| black_box(&crowd).census());
    }

    #[divan::bench(args = SIZES)]
    fn the_ten_oldest_free(bencher: Bencher, children: usize) {
        let crowd = Crowd::new(children);
        bencher.bench_local(|| black_box(&crowd).oldest_free(black_box(10)));
    }

    /// The timeout check, as it mostly is.
    #[divan::bench(args = SIZES)]
    fn nobody_overdue(bencher: Bencher, children: usize) {
        let crowd = Crowd::new(children);
        let now = Time::at(Duration::from_secs(10));
        bencher.bench_local(|| black_box(&crowd).overdue(Duration::from_secs(3600), now));
    }

    #[divan::bench(args = SIZES)]
    fn everybody_overdue(bencher: Bencher, children: usize) {
        let crowd = Crowd::new(children);
        let now = Time::at(Duration::from_secs(100));
        bencher.bench_local(|| black_box(&crowd).overdue(Duration::from_secs(1), now));
    }
}

/// The target is 2 ns for a counter.
mod count {
    use super::*;

    /// A thousand each time, which the result has to be divided by.
    const TIMES: usize = 1000;

    #[divan::bench]
    fn counter_in_a_child(bencher: Bencher) {
        count_as_a_child();
        let pages = black_box(metrics::counter("pages"));
        bencher
            .counter(TIMES)
            .bench_local(|| (0..TIMES).for_each(|_| pages.increment()));
    }

    #[divan::bench]
    fn histogram_in_a_child(bencher: Bencher) {
        count_as_a_child();
        let seconds = black_box(metrics::histogram("seconds", &metrics::SECONDS));
        bencher
            .counter(TIMES)
            .bench_local(|| (0..TIMES).for_each(|_| seconds.observe(black_box(0.3))));
    }

    /// In a thread that does not serve, or in the parent.
    #[divan::bench]
    fn counter_elsewhere(bencher: Bencher) {
        let pages = metrics::counter("pages");
        bencher.counter(TIMES).bench(|| {
            let add = || (0..TIMES).for_each(|_| black_box(pages).increment());
            std::thread::scope(|scope| drop(scope.spawn(add)));
        });
    }
}

/// The target is 2 µs among 50 children. What it costs where other children have written to their
/// slots meanwhile, in the caches of other processors, is more.
mod claim {
    use super::*;
    use std::num::NonZeroU64;

    const CLIENT: NonZeroU64 = NonZeroU64::new(3).unwrap();

    #[divan::bench(args = [10, 50, 200])]
    fn a_connection_of_a_client(bencher: Bencher, children: usize) {
        let claims = Claims::new(children).expect("a board");
        bencher.bench_local(|| black_box(&claims).claim(black_box(CLIENT)));
    }
}
