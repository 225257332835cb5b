#!/usr/bin/env python3
"""Serves a WSGI application (Flask, Django, Pyramid, ...) as a child of ExecServer:

    wsgi.py [--max-requests N] MODULE:APPLICATION

One request for each connection, HTTP/1.0, as behind a proxy that keeps its clients' connections. What
reads and answers is the standard library's wsgiref; the words are those of prefork.py."""

import argparse
import importlib
import io
import os
import sys
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

import prefork


class Input(io.RawIOBase):
    """What a client sends: while it is slow, the child goes on saying ACK."""

    def __init__(self, child, client):
        self.child, self.client = child, client

    def readable(self):
        return True

    def readinto(self, buffer):
        self.child.wait(self.client)
        return self.client.recv_into(buffer)


class Output(io.BufferedIOBase):
    """What is sent to a client, in the same way."""

    def __init__(self, child, client):
        self.child, self.client = child, client

    def writable(self):
        return True

    def write(self, data):
        self.child.send(self.client, data)
        return len(data)


class Handler(WSGIRequestHandler):
    """One connection."""

    def setup(self):
        super().setup()
        self.rfile = io.BufferedReader(Input(self.server.child, self.connection))
        self.wfile = Output(self.server.child, self.connection)

    def address_string(self):
        return str(self.client_address[0])

    def log_message(self, *_):
        """No line for each request: what is printed goes through the parent."""


class Server:
    """What wsgiref asks of the server of a connection."""

    def __init__(self, child, application, listener):
        self.child, self.application = child, application
        address = listener.getsockname()
        self.host, self.port = address[:2] if isinstance(address, tuple) else ("localhost", 80)
        self.base_environ = {
            "SERVER_NAME": self.host,
            "SERVER_PORT": str(self.port),
            "GATEWAY_INTERFACE": "CGI/1.1",
            "REMOTE_HOST": "",
            "CONTENT_LENGTH": "",
            "SCRIPT_NAME": "",
        }

    def get_app(self):
        return self.application

    def serve(self, client):
        peer = client.getpeername()
        # The client of a UNIX socket has no address.
        Handler(client, peer if isinstance(peer, tuple) else ("", 0), self)


def load(name):
    """The application of MODULE:APPLICATION, from the working directory or an installed package."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    return getattr(importlib.import_module(module), attribute or "application")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-requests", type=int, default=1000)
    parser.add_argument("application", metavar="MODULE:APPLICATION")
    options = parser.parse_args()
    ServerHandler.server_software = "prefork"
    # Before the first word: a child that cannot load it has failed to start.
    application = load(options.application)
    child = prefork.Child()
    server = Server(child, application, child.listener)
    prefork.serve(server.serve, options.max_requests, child)


if __name__ == "__main__":
    main()
