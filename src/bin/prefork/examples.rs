//! What the help of each command begins with, and which commands there are. Only texts.

/// An example first, then what there is.
pub(crate) const TEMPLATE: &str = "{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

pub(crate) const EXAMPLES: &str = "\
Any program as a preforking server:

  prefork inetd --listen :7777 -- cat
  prefork run --listen :8080 --spare 2..10 --max-clients 50 -- ./worker.py
";

pub(crate) const RUN_EXAMPLES: &str = "\
Run a program in each child; it accepts on descriptor 3 (LISTEN_FDS):

  prefork run --listen :8080 --spare 2..10 --max-clients 50 -- ./worker.py
  prefork run --listen :7777 --spare 2..4 -- python3 examples/languages/prefork.py
";

pub(crate) const INETD_EXAMPLES: &str = "\
Run a program for each connection, which is its stdin and stdout:

  prefork inetd --listen :7777 --max-clients 100 --deadline 30s -- cat
";

pub(crate) const CHECK_EXAMPLES: &str = "\
Print each setting and where it comes from:

  prefork check prefork.toml
";

pub(crate) const STATUS_EXAMPLES: &str = "\
Print how a running server is:

  prefork status --status 9100
";

pub(crate) const TOP_EXAMPLES: &str = "\
Watch a running server, see where its children are, and retire them:

  prefork top --status 9100 --control /run/app.control
";

pub(crate) const RELOAD_EXAMPLES: &str = "\
Replace every child, and wait until that is done:

  prefork reload --control /run/app.control
";

pub(crate) const UPGRADE_EXAMPLES: &str = "\
Become the program that the file of the server is now, and wait until that is done:

  prefork upgrade --control /run/app.control
";

pub(crate) const STOP_EXAMPLES: &str = "\
Shut a running server down, and wait until the last child has gone:

  prefork stop --control /run/app.control
";

pub(crate) const DRAIN_EXAMPLES: &str = "\
Take a running server out of the balancers that ask it, and wait until they are told so:

  prefork drain --control /run/app.control
";

pub(crate) const READY_EXAMPLES: &str = "\
Put a drained server back:

  prefork ready --control /run/app.control
";

pub(crate) const RETIRE_EXAMPLES: &str = "\
Replace one child, and wait until its successor is ready:

  prefork retire 4712 --control /run/app.control
";

pub(crate) const STACK_EXAMPLES: &str = "\
Print where a child is, its calls if the server is built with the feature `stacks`:

  prefork stack 4712 --control /run/app.control
";

pub(crate) const GET_EXAMPLES: &str = "\
Print an attribute of a running server:

  prefork get max_clients --control /run/app.control
";

pub(crate) const COMPLETIONS_EXAMPLES: &str = "\
Complete commands and flags in this shell:

  prefork completions bash > ~/.local/share/bash-completion/completions/prefork
";

pub(crate) const MAN_EXAMPLES: &str = "\
Read the man page of a command:

  prefork man run | man -l -
";

pub(crate) const SET_EXAMPLES: &str = "\
Set an attribute of a running server:

  prefork set max_clients 100 --control /run/app.control
";

/// The commands that have a man page of their own.
pub(crate) const PAGES: [&str; 16] = [
    "run",
    "inetd",
    "check",
    "status",
    "top",
    "reload",
    "upgrade",
    "stop",
    "drain",
    "ready",
    "retire",
    "stack",
    "set",
    "get",
    "completions",
    "man",
];
