"""Counts words: a library that knows nothing of servers."""

import collections
import os


def count(line):
    if line == "spin":
        while True:
            pass
    if line == "pid":
        return str(os.getpid())
    if not line:
        raise ValueError("no words")
    words = collections.Counter(line.lower().split())
    return ", ".join(f"{word}: {times}" for word, times in sorted(words.items()))
