#!/usr/bin/env python3
"""A child of ExecServer in Python: takes connections one by one and says when it is busy.

    import prefork
    prefork.serve(handler)      # handler(client: socket.socket)

Run as a program it is a line echo server, which the line `spin` hangs."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # No traceback when told to stop while starting.

import argparse
import os
import select
import socket
import sys
import time

WORDS = {"control": b"\x06\x13\x11", "poe": b"123"}


class Child:
    """The words, the socket, and the order to stop."""

    def __init__(self, words="control", grace=10.0):
        self.ack_word, self.busy, self.not_busy = (bytes([word]) for word in WORDS[words])
        self.interval = float(os.environ.get("PREFORK_SEND_ACK", 0)) or None
        self.state = self.not_busy
        self.next_ack = 0.0
        self.stopping = False
        self.grace = grace
        self.parent = os.getppid()
        self.listener = listener()
        self.waiting = self._waiting()

    def _waiting(self):
        """An epoll with the socket and a pipe that a signal writes to."""
        wakeup, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        waiting = select.epoll()
        # A connection wakes one process, not all.
        waiting.register(self.listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        waiting.register(wakeup, select.EPOLLIN)
        return waiting

    def _stop(self, number, frame):
        """SIGINT: finish what is in hand, and leave. It also comes when the parent dies; then the
        time for that is limited, in case this process is stuck."""
        self.stopping = True
        if os.getppid() != self.parent:
            signal.setitimer(signal.ITIMER_REAL, self.grace)

    def say(self, *words):
        # One write, nothing buffered. The newline before a word ends whatever was printed before.
        os.write(1, b"".join(b"\n" + word for word in words) + b"\n")

    def turn(self, state):
        self.state = state
        self.say(state)

    def ack(self):
        """Says ACK if one is due; the state too, so that a word that was lost does no harm. Call it
        during long work."""
        if time.monotonic() >= self.next_ack:
            self.say(self.ack_word, self.state)
            self.next_ack = time.monotonic() + (self.interval or float("inf"))

    def patience(self):
        """How long to wait at the most until an ACK is due; None for ever."""
        return max(0.0, self.next_ack - time.monotonic()) if self.interval else None

    def _try_accept(self):
        try:
            return self.listener.accept()[0]
        except (BlockingIOError, ConnectionAbortedError):
            return None

    def next_connection(self):
        """Waits for a connection; None when it is time to leave. It looks once more when told to
        stop, in case this process was woken for a connection."""
        while not self.stopping:
            self.ack()
            client = self._try_accept()
            if client:
                return client
            self.waiting.poll(self.patience())
        return self._try_accept()

    def wait(self, client, for_writing=False):
        """Waits for a client, however slow, and goes on saying ACK: only a process that is stuck in
        code is silent."""
        poll = select.poll()
        poll.register(client, select.POLLOUT if for_writing else select.POLLIN)
        while True:
            self.ack()
            patience = self.patience()
            # Rounded up, or the last millisecond would be a busy loop.
            if poll.poll(None if patience is None else int(patience * 1000) + 1):
                return


    def send(self, client, data):
        """Sends all of it, waiting in the same way."""
        left = memoryview(data)
        while left:
            try:
                left = left[client.send(left, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                self.wait(client, for_writing=True)


def listener():
    """Descriptor 3, if it is meant for this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or int(os.environ["LISTEN_FDS"]) < 1:
        sys.exit("no socket from the parent: run this under ExecServer")
    found = socket.socket(fileno=3)
    # For all children, since they share it; all are this program.
    found.setblocking(False)
    return found


def serve(handler, max_requests=25, child=None):
    """Calls `handler` with each connection, until told to stop or after `max_requests` (0: no
    limit). What the client does wrong ends its connection only."""
    child = child or Child()
    served = 0
    while client := child.next_connection():
        child.turn(child.busy)
        served += 1
        with client:
            client.setblocking(True)
            try:
                handler(client)
            except ConnectionError:
                pass
        if child.stopping or served == max_requests:
            return
        child.turn(child.not_busy)


def echo(child):
    """A handler that sends each line back."""

    def handler(client):
        buffer = b""
        while True:
            child.wait(client)
            data = client.recv(4096)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                while line == b"spin":  # What the parent is there for.
                    pass
                child.send(client, line + b"\n")

    return handler


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-requests", type=int, default=25)
    parser.add_argument("--words", choices=WORDS, default="control")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds to live without a parent")
    options = parser.parse_args()
    child = Child(options.words, options.grace)
    serve(echo(child), options.max_requests, child)


if __name__ == "__main__":
    main()
