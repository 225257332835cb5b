"""A small Flask application, for wsgi.py: `wsgi.py hello_flask:application`."""

import os

from flask import Flask, request

application = Flask(__name__)


@application.get("/")
def hello():
    return f"hello from {os.getpid()}\n"


@application.post("/upper")
def upper():
    return request.get_data(as_text=True).upper()


@application.get("/crash")
def crash():
    os.kill(os.getpid(), 9)
