//! The protocol: one line that asks, one answer, the end. The answer is made of the nonce, so that
//! every byte of it is known beforehand but the pid of the child that gave it.
//!
//! It never reads or writes.

/// What a client has of its answer when the connection has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// All of it, by the child with that pid.
    Whole(u32),
    /// The beginning of it, or nothing.
    Part,
    /// Something else.
    Wrong,
}

/// The answer to `nonce` by the child `pid`. One in eight is longer than a few packets.
pub fn answer(nonce: u64, pid: u32) -> Vec<u8> {
    let words = if nonce.is_multiple_of(8) { 1200 } else { 8 };
    let mut text = format!("{pid} {nonce:016x} {words}\n");
    for word in 0..words {
        text.push_str(&format!("{:016x}", nonce.rotate_left(word % 64)));
    }
    text.push('\n');
    text.into_bytes()
}

/// Compares what has come with the answer to `nonce`.
pub fn judge(received: &[u8], nonce: u64) -> Received {
    let digits = received
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let pid = std::str::from_utf8(&received[..digits]).expect("digits");
    let Ok(pid) = pid.parse() else {
        let empty = received.is_empty();
        return if empty {
            Received::Part
        } else {
            Received::Wrong
        };
    };
    let expected = answer(nonce, pid);
    match received {
        whole if whole == expected => Received::Whole(pid),
        part if expected.starts_with(part) || part.len() == digits => Received::Part,
        _ => Received::Wrong,
    }
}
