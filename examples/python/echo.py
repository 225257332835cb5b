#!/usr/bin/env python3
"""A child of ExecServer in Python: a line echo server that says when it is busy."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # No traceback when told to stop while starting.

import argparse
import os
import select
import socket
import sys
import time

WORDS = {"control": b"\x06\x13\x11", "poe": b"123"}

parser = argparse.ArgumentParser()
parser.add_argument("--max-requests", type=int, default=25)
parser.add_argument("--words", choices=WORDS, default="control")
parser.add_argument("--grace", type=float, default=10.0, help="seconds to live without a parent")
options = parser.parse_args()
ACK, BUSY, NOT_BUSY = (bytes([word]) for word in WORDS[options.words])


class Channel:
    """What is said to the parent: one write for a message, and nothing buffered."""

    def __init__(self):
        self.interval = float(os.environ.get("PREFORK_SEND_ACK", 0)) or None
        self.state = NOT_BUSY
        self.next_ack = 0.0

    def say(self, *words):
        # The newline before a word ends whatever was printed before.
        os.write(1, b"".join(b"\n" + word for word in words) + b"\n")

    def turn(self, state):
        self.state = state
        self.say(state)

    def acknowledge(self):
        """Says ACK if one is due; the state too, so that a word that was lost does no harm."""
        if time.monotonic() >= self.next_ack:
            self.say(ACK, self.state)
            self.next_ack = time.monotonic() + (self.interval or float("inf"))

    def patience(self):
        """How long to wait at the most, for epoll: -1 for ever."""
        return max(0.0, self.next_ack - time.monotonic()) if self.interval else -1


class Leave:
    """SIGINT: finish what is in hand, and leave. It also comes when the parent dies; then the time
    for that is limited, in case this process is stuck."""

    def __init__(self):
        self.asked = False
        self.parent = os.getppid()
        self.wakeup, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.ask)

    def ask(self, number, frame):
        self.asked = True
        if os.getppid() != self.parent:
            signal.setitimer(signal.ITIMER_REAL, options.grace)


def listener():
    """Descriptor 3, if it is meant for this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or int(os.environ["LISTEN_FDS"]) < 1:
        sys.exit("no socket from the parent: run this under ExecServer")
    found = socket.socket(fileno=3)
    # For all children, since they share it; all are this program.
    found.setblocking(False)
    return found


def try_accept(listening):
    try:
        return listening.accept()[0]
    except (BlockingIOError, ConnectionAbortedError):
        return None


def next_connection(listening, waiting, channel, leave):
    """Waits for a connection. A connection wakes one process, not all: EPOLLEXCLUSIVE. So one that
    is told to stop looks once more, in case the wake-up was for a connection."""
    while not leave.asked:
        channel.acknowledge()
        client = try_accept(listening)
        if client:
            return client
        waiting.poll(channel.patience())
    return try_accept(listening)


def serve(client, channel):
    """Echoes until the client has no more to say. However slow it is, ACKs are sent: only a process
    that is stuck in code is silent."""
    buffer = b""
    while True:
        channel.acknowledge()
        client.settimeout(channel.patience() if channel.interval else None)
        try:
            data = client.recv(4096)
        except (TimeoutError, BlockingIOError):
            continue
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        client.settimeout(None)
        for line in lines:
            while line == b"spin":  # What the parent is there for.
                pass
            client.sendall(line + b"\n")


def main():
    channel, leave, listening = Channel(), Leave(), listener()
    waiting = select.epoll()
    waiting.register(listening, select.EPOLLIN | select.EPOLLEXCLUSIVE)
    waiting.register(leave.wakeup, select.EPOLLIN)
    served = 0
    while client := next_connection(listening, waiting, channel, leave):
        channel.turn(BUSY)
        served += 1
        with client:
            try:
                serve(client, channel)
            except ConnectionError:
                pass
        if leave.asked or served == options.max_requests:
            return
        channel.turn(NOT_BUSY)


main()
