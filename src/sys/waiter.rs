//! How a child waits for a connection so that one connection wakes one child. Waits; accepts
//! nothing.
//!
//! Two hundred idle children that poll one listener are all woken for each connection, and all but
//! one find nothing. On Linux each child has an epoll of its own with the listeners in it as
//! exclusive. Three rules come with it, kept by those who accept: a child that was woken and told to
//! stop tries to accept once more; a child that died is followed by a newcomer, which looks first;
//! and only a child that can accept now waits here.

use super::milliseconds;
use crate::sys::link::Wake;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

/// `None`, longer than poll(2) can say, is for ever.
fn poll_timeout(timeout: Option<Duration>) -> PollTimeout {
    timeout.map_or(PollTimeout::NONE, |timeout| {
        PollTimeout::try_from(milliseconds(timeout)).unwrap_or(PollTimeout::MAX)
    })
}

/// To be told of nothing but the end of a pipe, which poll(2) tells of in any case.
pub(crate) const THE_END: PollFlags = PollFlags::empty();

/// Waits until one of `fds` is ready and says which are; an interrupted wait has found none.
pub(crate) fn poll_any<const N: usize>(
    fds: [(BorrowedFd<'_>, PollFlags); N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut asked = fds.map(|(fd, flags)| PollFd::new(fd, flags));
    match poll(&mut asked, poll_timeout(timeout)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(asked.map(|fd| fd.any().unwrap_or(false)))
}

/// Waits on listeners and on what every child watches: its stop bell and the death watch.
#[cfg(target_os = "linux")]
pub(crate) use linux::Waiter;

#[cfg(not(target_os = "linux"))]
pub(crate) use portable::Waiter;

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use std::{
        cell::RefCell,
        os::fd::{AsRawFd, RawFd},
    };

    const LEAVE: u64 = 0;
    const LISTENER: u64 = 1;

    pub(crate) struct Waiter {
        epoll: Epoll,
        listeners: RefCell<Vec<RawFd>>,
    }

    impl Waiter {
        pub(crate) fn new(stop: &OwnedFd, death: &OwnedFd) -> io::Result<Self> {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, LEAVE))?;
            // Nothing but its end, which is always told: on Linux a child can open the other end
            // through /proc and write, and that must not look like the parent's death to all others.
            epoll.add(death, EpollEvent::new(EpollFlags::empty(), LEAVE))?;
            Ok(Self {
                epoll,
                listeners: RefCell::default(),
            })
        }

        pub(crate) fn wait(
            &self,
            listeners: &[BorrowedFd<'_>],
            timeout: Option<Duration>,
        ) -> io::Result<Wake> {
            self.register(listeners)?;
            let timeout = timeout.map_or(EpollTimeout::NONE, |timeout| {
                EpollTimeout::try_from(milliseconds(timeout)).unwrap_or(EpollTimeout::MAX)
            });
            let mut events = [EpollEvent::empty(); 8];
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            let found = &events[..count];
            Ok(if found.iter().any(|event| event.data() == LEAVE) {
                Wake::Stop
            } else if found.is_empty() {
                Wake::Timer
            } else {
                Wake::Ready
            })
        }

        fn register(&self, listeners: &[BorrowedFd<'_>]) -> io::Result<()> {
            let mut known = self.listeners.borrow_mut();
            for listener in listeners {
                let fd = listener.as_raw_fd();
                if !known.contains(&fd) {
                    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
                    self.epoll.add(listener, EpollEvent::new(flags, LISTENER))?;
                    known.push(fd);
                }
            }
            Ok(())
        }

        /// Whether there are listeners in the epoll.
        pub(crate) fn is_asked(&self) -> bool {
            !self.listeners.borrow().is_empty()
        }

        /// Takes the listeners out of the epoll, until they are waited for again. The kernel goes through
        /// all that have a listener in them, for each connection, until one is found that waits.
        #[allow(unsafe_code)]
        pub(crate) fn leave_wakeups(&self) {
            // Its room is kept: it is soon needed again.
            for listener in self.listeners.borrow_mut().drain(..) {
                // By number, since its owner may have closed it: then it is out already, or the number is
                // that of something that never was in there. OK to ignore both.
                // SAFETY: the epoll is open; for this operation the event may be null.
                unsafe {
                    nix::libc::epoll_ctl(
                        self.epoll.0.as_raw_fd(),
                        nix::libc::EPOLL_CTL_DEL,
                        listener,
                        std::ptr::null_mut(),
                    )
                };
            }
        }

        pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
            self.epoll.0.as_fd()
        }
    }
}

/// Where there is no exclusive wake-up: poll(2), and the herd.
#[cfg(not(target_os = "linux"))]
mod portable {
    use super::*;

    pub(crate) struct Waiter {
        stop: OwnedFd,
        death: OwnedFd,
    }

    impl Waiter {
        pub(crate) fn new(stop: &OwnedFd, death: &OwnedFd) -> io::Result<Self> {
            Ok(Self {
                stop: stop.try_clone()?,
                death: death.try_clone()?,
            })
        }

        pub(crate) fn wait(
            &self,
            listeners: &[BorrowedFd<'_>],
            timeout: Option<Duration>,
        ) -> io::Result<Wake> {
            let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut asked = vec![
                input(self.stop.as_fd()),
                PollFd::new(self.death.as_fd(), THE_END),
            ];
            asked.extend(listeners.iter().copied().map(input));
            match poll(&mut asked, poll_timeout(timeout)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<_> = asked.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            Ok(if ready[0] || ready[1] {
                Wake::Stop
            } else if ready.contains(&true) {
                Wake::Ready
            } else {
                Wake::Timer
            })
        }

        /// Nothing is kept from one wait to the next.
        pub(crate) fn is_asked(&self) -> bool {
            false
        }

        pub(crate) fn leave_wakeups(&self) {}

        pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
            self.stop.as_fd()
        }
    }
}
