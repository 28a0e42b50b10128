"""HTTP connections of both transports: httpx without what it need not import, deadlines, hanging up."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import socket
import ssl
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aethr import network
from aethr.llm.calls import Deadlines

if TYPE_CHECKING:
    import httpx

_UNUSED = ("httpx._main", "httpcore._sync.http2", "httpcore._async.http2")
"""httpx's command line (with click and rich) and HTTP/2: optional parts, and two thirds of its import."""
_LOADING = threading.Lock()


def load() -> ModuleType:
    """httpx. Safe from any thread."""
    with _LOADING:
        return _loaded()


@functools.cache
def _loaded() -> ModuleType:
    """While ``sys.modules`` has None for a module its import fails; httpx then does without it."""
    hidden = () if "httpcore" in sys.modules else [name for name in _UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        importlib.import_module("httpcore")  # httpx itself would put it off to the first call
        return importlib.import_module("httpx")
    finally:
        for name in hidden:
            del sys.modules[name]


def transport(verify: ssl.SSLContext | bool, **settings: Any) -> httpx.BaseTransport:
    """What a client sends by: directly, or by the proxy that the environment names for the address.

    ``settings`` are those of ``httpx.HTTPTransport``.
    """
    load()
    from aethr.llm.routed import Routed

    return Routed(verify, **settings)


@functools.cache
def trusted() -> ssl.SSLContext:
    """Whom to trust: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else certifi's list. It takes 20 ms to read.

    Raises ``UsageError`` where the variable names nothing that can be read.
    """
    network.check_certificates(os.environ)
    context: ssl.SSLContext = load().create_ssl_context()
    return context


def timeout(limits: Deadlines) -> httpx.Timeout:
    """The socket's own limits: a little more than ours, so that ours are the ones that end a call."""
    made: httpx.Timeout = load().Timeout(limits.whole_s + 1.0, connect=limits.connect_s)
    return made


def hang_up(response: Any) -> None:
    """Shut the socket of an unfinished response down: that wakes a reader in it, closing would not."""
    network = getattr(response, "extensions", {}).get("network_stream")
    sock = network.get_extra_info("socket") if network is not None else None
    if sock is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
