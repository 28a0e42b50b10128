"""The way of a request, by a proxy of the environment or not; for every client that Aethr makes or lends.

httpx (0.28) reads the same variables itself, but raises for an entry of NO_PROXY that it cannot read, knows
no networks there, and does not say that it is a proxy that failed.
Imports httpx: ``connection.load`` comes first.
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
    """A proxy could not be reached, or did not let a request through; ``refused`` if it will not either.

    ``way`` names the proxy and its variable.
    """

    def __init__(self, way: str, reason: str, *, refused: bool) -> None:
        super().__init__(f"{way}: {reason}")
        self.way = way
        self.reason = reason
        self.refused = refused


class Routed(httpx.BaseTransport):
    """Sends each request by its proxy or directly. ``settings`` are those of ``httpx.HTTPTransport``."""

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
            if _concerns_certificates(error):  # of the server behind the tunnel
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
            if proxy not in self._made:
                self._made[proxy] = self._transport(proxy)
            return self._made[proxy]

    def _transport(self, proxy: Proxy | None) -> httpx.BaseTransport:
        if proxy is None:
            return httpx.HTTPTransport(verify=self._verify, **self._settings)
        proxy.require()
        trusted = self._verify if isinstance(self._verify, ssl.SSLContext) else None
        encrypted = proxy.url.startswith("https:")
        named = httpx.Proxy(proxy.url, ssl_context=trusted if encrypted else None)
        return httpx.HTTPTransport(verify=self._verify, proxy=named, **self._settings)


def _concerns_certificates(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None
