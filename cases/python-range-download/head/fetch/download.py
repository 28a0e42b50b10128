"""Downloads a file over HTTP, a large one in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

PIECE = 8_388_608
"""The size of a piece in bytes."""


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


def pieces(size: int, piece: int) -> Iterator[tuple[int, int]]:
    """Where each piece of a file begins and ends, as in a slice."""
    for start in range(0, size, piece):
        yield start, min(start + piece, size)


def download(send: Send, url: str, piece: int = PIECE) -> bytes:
    """The whole file, in a single version. Raises ``DownloadError``."""
    size, etag = describe(send, url)
    whole = bytearray()
    for start, end in pieces(size, piece):
        answer = send("GET", url, {"if-match": etag, "range": f"bytes={start}-{end - 1}"})
        if answer.status == 200 and len(answer.body) == size:  # the server has no ranges
            return answer.body
        if answer.status != 206:
            raise DownloadError(f"{url}: {answer.status}")
        if len(answer.body) != end - start:
            raise DownloadError(f"{url}: {len(answer.body)} bytes of {end - start} at {start}")
        whole += answer.body
    return bytes(whole)
