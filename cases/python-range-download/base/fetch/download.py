"""Downloads a file over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Answer(NamedTuple):
    """What a server answered. The names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Send = Callable[[str, str, Mapping[str, str]], Answer]
"""Sends a request: method, address, headers."""


class DownloadError(Exception):
    """The server did not send what was asked for."""


def describe(send: Send, url: str) -> tuple[int, str]:
    """The size of a file in bytes, and the strong ETag of this version of it."""
    answer = send("HEAD", url, {})
    size, etag = answer.headers.get("content-length"), answer.headers.get("etag", "W/")
    if answer.status != 200 or size is None or etag.startswith("W/"):
        raise DownloadError(f"{url}: the server does not say which version it has, and how large it is")
    return int(size), etag


def download(send: Send, url: str) -> bytes:
    """The whole file, in a single version. Raises ``DownloadError``."""
    size, etag = describe(send, url)
    answer = send("GET", url, {"if-match": etag})
    if answer.status != 200:
        raise DownloadError(f"{url}: {answer.status}")
    if len(answer.body) != size:
        raise DownloadError(f"{url}: {len(answer.body)} bytes of {size}")
    return answer.body
