"""What the servers of the tests share: a real HTTP server on loopback, in threads of this process."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, TypeVar

_Served = TypeVar("_Served", bound="Loopback")

PAUSE_S = 0.005
"""How often a server looks up from waiting: it bounds the time that closing takes."""


class HttpServer(ThreadingHTTPServer):
    """``owner`` is the object that a handler asks for its answers."""

    owner: Any
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is the client's business; anything else is a bug worth a traceback."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def log_message(self, *args: object) -> None:
        """Nothing is printed: the owner keeps what was requested."""


class Loopback:
    """Serves from the start of a ``with`` block to its end, and leaves nothing behind."""

    http_class: type[HttpServer] = HttpServer

    def __init__(self, handler: type[Handler], port: int = 0) -> None:
        self._http = self.http_class(("127.0.0.1", port), handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": PAUSE_S})

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self: _Served) -> _Served:  # noqa: PYI019 - typing.Self is newer than Python 3.10
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
