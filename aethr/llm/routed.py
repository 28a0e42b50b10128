"""The transport of every httpx client: directly, or through a proxy of the environment.

httpx (0.28) reads the same variables itself, but raises for an entry of NO_PROXY that it cannot read, does
not support networks there, and does not report that it was a proxy that failed.
This module imports httpx: call ``connection.load`` first.
"""

from __future__ import annotations

import os
import ssl
import threading
from typing import Any

import httpx

from aethr.base import network
from aethr.base.network import Proxy


class ProxyFailed(httpx.ProxyError):
    """A proxy could not be reached, or refused a request; ``refused`` if a retry would be refused too.

    ``way`` names the proxy and its variable.
    """

    def __init__(self, way: str, reason: str, *, refused: bool) -> None:
        super().__init__(f"{way}: {reason}")
        self.way = way
        self.reason = reason
        self.refused = refused


class Routed(httpx.BaseTransport):
    """Sends a request through its proxy, or directly. ``settings`` are those of ``httpx.HTTPTransport``."""

    def __init__(self, verify: ssl.SSLContext | bool, **settings: Any) -> None:
        self._verify = verify
        self._settings = settings
        self._made: dict[Proxy | None, httpx.BaseTransport] = {}
        self._making = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        proxy = network.proxies(os.environ).of(url.scheme, url.raw_host.decode("ascii"), url.port)
        if proxy is None:
            return self._by(None).handle_request(request)
        try:
            response = self._by(proxy).handle_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, ssl.SSLError):
                cause = cause.__cause__ or cause.__context__
            if cause is not None:  # the certificate of the server behind the tunnel, not the proxy
                raise
            reason = str(error) or type(error).__name__
            raise ProxyFailed(proxy.shown, reason, refused=reason.startswith("4")) from error
        if response.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            response.close()
            raise ProxyFailed(proxy.shown, "407 Proxy Authentication Required", refused=True)
        return response

    def close(self) -> None:
        for transport in self._made.values():
            transport.close()

    def _by(self, proxy: Proxy | None) -> httpx.BaseTransport:
        with self._making:
            if proxy in self._made:
                return self._made[proxy]
            named = None
            if proxy is not None:
                proxy.require()
                trusted = self._verify if isinstance(self._verify, ssl.SSLContext) else None
                encrypted = proxy.url.startswith("https:")
                named = httpx.Proxy(proxy.url, ssl_context=trusted if encrypted else None)
            made = httpx.HTTPTransport(verify=self._verify, proxy=named, **self._settings)
            self._made[proxy] = made
            return made
