"""Files of every size around a piece come whole. In a Range header both ends are part of the range."""

import re
import sys

sys.path.insert(0, sys.argv[1])

from fetch import download as module

FILE = bytes(range(30))


def server(content, ranges=True):
    def send(method, url, headers):
        if method == "HEAD":
            return module.Answer(200, {"content-length": str(len(content)), "etag": '"1"'}, b"")
        assert headers["if-match"] == '"1"'
        if "range" not in headers or not ranges:
            return module.Answer(200, {}, content)
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", headers["range"]).groups())
        assert first <= last < len(content)
        return module.Answer(206, {}, content[first : last + 1])

    return send


sizes = {"piece": 10} if hasattr(module, "pieces") else {}
for size in (0, 1, 9, 10, 11, 19, 20, 21, 30):
    for ranges in (True, False):
        got = module.download(server(FILE[:size], ranges), "https://example.com/file", **sizes)
        assert got == FILE[:size], (size, got)
