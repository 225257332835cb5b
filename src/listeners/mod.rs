//! What is listened on: sockets, where they come from, who closes them. Serves nobody.

pub(crate) mod inherited;
