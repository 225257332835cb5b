//! How a child waits for a connection, so that one connection wakes one child. Accepts nothing.
//!
//! If two hundred idle children poll one listener, each connection wakes all of them, and all but
//! one find nothing. On Linux each child has its own epoll, which holds the listeners with
//! EPOLLEXCLUSIVE. The code that accepts follows three rules: a child that was woken and then told
//! to stop accepts until the queue is empty; the child that replaces a dead one first tries to
//! accept; and only a child that can accept now waits here.

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

/// A timeout as poll(2) takes it. `None`, or more than poll(2) can express, means forever.
fn poll_timeout(timeout: Option<Duration>) -> PollTimeout {
    timeout.map_or(PollTimeout::NONE, |timeout| {
        PollTimeout::try_from(milliseconds(timeout)).unwrap_or(PollTimeout::MAX)
    })
}

/// Interest in the end of a pipe only, which poll(2) always reports.
pub(crate) const THE_END: PollFlags = PollFlags::empty();

/// Waits until one of `fds` is ready, and says which are. An interrupted wait finds none.
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

/// The same for any number.
#[cfg(feature = "status")]
pub(crate) fn poll_many(
    fds: &[(BorrowedFd<'_>, PollFlags)],
    timeout: Option<Duration>,
) -> io::Result<Vec<bool>> {
    let asked = fds.iter().map(|&(fd, flags)| PollFd::new(fd, flags));
    let mut asked: Vec<_> = asked.collect();
    match poll(&mut asked, poll_timeout(timeout)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(asked.iter().map(|fd| fd.any().unwrap_or(false)).collect())
}

/// Waits on the listeners and on what every child watches: its stop event and the death watch.
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
            // Only its end, which epoll always reports: on Linux a child can open the other end
            // through /proc and write to it, which must not look like the parent's death to its
            // siblings.
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

        /// Whether the listeners are in the epoll.
        pub(crate) fn may_be_woken(&self) -> bool {
            !self.listeners.borrow().is_empty()
        }

        /// Takes the listeners out of the epoll until the next wait for them. For each connection
        /// the kernel goes through all epolls that hold the listener until it finds one with a
        /// waiting child.
        #[allow(unsafe_code)]
        pub(crate) fn leave_wakeups(&self) {
            // The vector keeps its capacity, since it is needed again soon.
            for listener in self.listeners.borrow_mut().drain(..) {
                // By number, since the owner may have closed the descriptor. Then the epoll has
                // dropped it, or the number now belongs to a descriptor that was never added. OK to
                // ignore both errors.
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

/// Where there is no exclusive wake-up: poll(2), with its thundering herd.
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

        /// This waiter keeps nothing between two waits.
        pub(crate) fn may_be_woken(&self) -> bool {
            false
        }

        pub(crate) fn leave_wakeups(&self) {}

        pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
            self.stop.as_fd()
        }
    }
}
