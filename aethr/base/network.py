"""Checks the addresses, proxies and certificates that the environment names, before anything is sent.

An error names the variable, never its value: the address of a proxy may hold a password. No HTTP library is
imported here.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from aethr.base.errors import UsageError

HTTP = ("http", "https")
SOCKS = ("socks5", "socks5h")
LONGEST_ADDRESS = 4096
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The names of this machine, as they are compared."""
PORTS = {"http": 80, "https": 443}
"""The port of an address that does not name one."""

_PLACE = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_RULE = re.compile(r"(?P<below>\*\.)?(?P<host>\[[^\[\]]*\]|[^:*\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_EXEMPT = re.compile(r"(?P<host>\[[^\[\]]*\](?:/[0-9]+)?|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")

_SCHEMES = ("http", "https", "all")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address(text: str, schemes: Collection[str] = HTTP) -> SplitResult:
    """Parse an address whose host can be looked up. Raises ``ValueError`` with the reason, without the text.

    httpx and ``socket.getaddrinfo`` accept every address that this accepts; for others both raise errors of
    other types.
    """
    text = text.strip()
    if len(text) > LONGEST_ADDRESS:
        raise ValueError("it is too long")
    if not all(letter.isprintable() and not letter.isspace() for letter in text):
        raise ValueError("it has a space or a control character in it")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("its host cannot be read") from None
    if parts.scheme not in schemes:
        raise ValueError(f"it does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    place = _PLACE.fullmatch(parts.netloc.rpartition("@")[2])
    if place is None:
        raise ValueError("its host or port cannot be read")
    if place["port"] and not 0 < int(place["port"]) < 1 << 16:
        raise ValueError("its port is not one of 1 to 65535")
    if not place["host"]:
        raise ValueError("it has no host")
    _check_host(place["host"])
    return parts


def is_address(text: str) -> bool:
    """Whether this is an http or https address of plain characters."""
    try:
        address(text)
    except ValueError:
        return False
    return text.isascii() and text == text.strip()


def _check_host(host: str) -> None:
    if host.startswith("["):
        _check_ip(host[1:-1], 6)
    elif _NUMBERS.fullmatch(host):
        _check_ip(host, 4)
    else:
        labels = _ascii(host).removesuffix(".").split(".")
        if not all(map(_LABEL.fullmatch, labels)) or sum(map(len, labels)) + len(labels) > 254:
            raise ValueError("its host is not a name that can be looked up")


def _check_ip(text: str, version: int) -> None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise ValueError(f"its host is not an IPv{version} address")


def _ascii(host: str) -> str:
    """A host name in ASCII, as it is looked up. Raises ``ValueError`` if it has no such form."""
    if host.isascii() and "xn--" not in host.lower():
        return host
    import idna  # a dependency of httpx, which reads both forms with it

    try:
        found = host if host.isascii() else idna.encode(host.lower()).decode("ascii")
        idna.decode(found)
        return found
    except idna.IDNAError:
        raise ValueError("its host is not a name that can be looked up") from None


def canonical(host: str) -> str:
    """A host as it is compared: ASCII in lower case, without a dot at its end; an IP address in short form.

    Without brackets. Raises ``ValueError`` if a name has no form in ASCII.
    """
    host = host.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return _ascii(host).lower().removesuffix(".")


class HostRule(NamedTuple):
    """An entry of ``hosts`` in a workflow file. ``below`` is True for ``*.NAME``: every name below it.

    ``port`` is None for any port.
    """

    name: str
    below: bool = False
    port: int | None = None

    def covers(self, name: str, port: int | None) -> bool:
        """Whether a host in its canonical form is meant. ``localhost`` means each name of this machine."""
        if self.port not in (None, port):
            return False
        if self.below:
            return name.endswith(f".{self.name}")
        return name == self.name or (self.name == "localhost" and name in LOOPBACK)


def host_rule(text: str) -> HostRule:
    """Parse ``HOST``, ``*.HOST``, or either with ``:PORT``. Raises ``ValueError`` with the reason."""
    if any(sign in text for sign in "/@?#\\"):
        raise ValueError("it is more than a host; write the name alone, without scheme, user and path")
    match = _RULE.fullmatch(text)
    if match is None and text.count(":") > 1:
        raise ValueError("write an IPv6 address in brackets, such as '[::1]'")
    if match is None:
        raise ValueError("it is not a host, such as api.openai.com, '*.example.com' or localhost:11434")
    if match["port"] and not 0 < int(match["port"]) < 1 << 16:
        raise ValueError("its port is not one of 1 to 65535")
    try:
        _check_host(match["host"])
    except ValueError as error:
        raise ValueError(str(error).replace("its host", "it", 1)) from None
    name = canonical(match["host"])
    if match["below"] and (match["host"].startswith("[") or name.rpartition(".")[2].isdigit()):
        raise ValueError("nothing is below an IP address; only a name can follow '*.'")
    return HostRule(name, bool(match["below"]), int(match["port"]) if match["port"] else None)


class Hosts(NamedTuple):
    """The only hosts that a run may call."""

    rules: tuple[HostRule, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Hosts:
        """Parse the entries of a valid workflow file."""
        return cls(tuple(map(host_rule, texts)))

    def allow(self, scheme: str, host: str | None, port: int | None) -> bool:
        """Whether an address with these parts may be called. ``host`` is as written, in any form."""
        try:
            name = canonical(host or "")
        except ValueError:
            return False
        return any(rule.covers(name, port or PORTS.get(scheme)) for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the environment variable that names it."""

    variable: str
    url: str = field(repr=False)

    @property
    def shown(self) -> str:
        """``the proxy http://host:port (HTTPS_PROXY)``: never its user and password."""
        parts = urlsplit(self.url)
        return f"the proxy {parts.scheme}://{parts.netloc.rpartition('@')[2]} ({self.variable})"

    @property
    def place(self) -> tuple[str, str | None, int | None]:
        """Its scheme, host and port."""
        parts = urlsplit(self.url)
        return parts.scheme, parts.hostname, parts.port

    def require(self) -> None:
        """Raises ``UsageError`` if the package that httpx needs for this kind of proxy is missing."""
        if self.url.startswith(SOCKS) and find_spec("socksio") is None:
            raise UsageError(
                f"{self.variable}: a SOCKS proxy needs the package socksio, which is not installed",
                f"Install socksio beside aethr, or unset {self.variable}.",
            )


class Proxies(NamedTuple):
    """The proxy of each scheme (``http``, ``https``, ``all``), and the entries of NO_PROXY."""

    by_scheme: Mapping[str, Proxy]
    exempt: tuple[str, ...] = ()

    def of(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """The proxy for a host, None for a direct connection. ``host`` is ASCII, without brackets."""
        host, port = host.lower().rstrip("."), port or PORTS.get(scheme, 0)
        if any(_matches(entry, scheme, host, port) for entry in self.exempt):
            return None
        return self.by_scheme.get(scheme) or self.by_scheme.get("all")

    def on_the_way_to(self, url: SplitResult) -> Proxy | None:
        return self.of(url.scheme, _ascii(url.hostname or ""), url.port)


def proxies(environ: Mapping[str, str]) -> Proxies:
    """The proxies that the environment names, or else the system. Raises ``UsageError``.

    As for httpx, which asks Python, a variable in lower case has precedence, also if it is empty:
    https://docs.python.org/3/library/urllib.request.html#urllib.request.getproxies
    """
    named: dict[str, tuple[str, str]] = {}
    for scheme in (*_SCHEMES, "no"):
        lower = f"{scheme}_proxy"
        variable = lower if lower in environ else lower.upper()
        if value := environ.get(variable, "").strip():
            named[scheme] = variable, value
    exempt = tuple(filter(None, re.split(r"[,\s]+", named.pop("no", ("", ""))[1])))
    if "*" in exempt:
        return Proxies({})
    if not named and sys.platform in ("darwin", "win32"):
        from urllib.request import getproxies

        named = {scheme: ("the system's settings", value) for scheme, value in getproxies().items()}
    if "http" in named and "https" in named:
        named.pop("all", None)
    return Proxies({scheme: _make_proxy(*named[scheme]) for scheme in _SCHEMES if scheme in named}, exempt)


def _make_proxy(variable: str, value: str) -> Proxy:
    url = value if "://" in value else f"http://{value}"
    try:
        address(url, (*HTTP, *SOCKS))
    except ValueError as error:
        raise UsageError(
            f"{variable} is not the address of a proxy: {error}",
            f"Set {variable} to an address such as http://proxy.example:8080, or unset it.",
        ) from None
    return Proxy(variable, url)


def _matches(entry: str, scheme: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY matches a host; an entry that cannot be read matches none.

    A name matches its subdomains too, as for curl. Networks are CIDR. ``host:port`` and ``scheme://host`` are
    forms of httpx: https://www.python-httpx.org/environment_variables/#no_proxy
    """
    kind, _, place = entry.lower().rpartition("://")
    if kind not in ("", "all", scheme):
        return False
    network, wanted = _network(place), None
    if network is None:
        match = _EXEMPT.fullmatch(place)
        if match is None:
            return False
        place, wanted = match["host"], match["port"]
        network = _network(place.replace("[", "").replace("]", ""))
    if wanted and int(wanted) != port:
        return False
    if network is not None:
        try:
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False
    try:
        name = _ascii(place.removeprefix("*").strip("."))
    except ValueError:
        return False
    return bool(name) and f".{host}".endswith(f".{name}")


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def check_certificates(environ: Mapping[str, str]) -> None:
    """Raises ``UsageError`` for a TLS variable whose file or folder cannot be used.

    ``SSL_CERTIFICATE`` is LiteLLM's; httpx and Python's own ``ssl`` read the others.
    """
    import ssl

    def load(variable: str, read: Callable[[ssl.SSLContext, str], None]) -> None:
        if not (named := environ.get(variable)):
            return
        try:
            read(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), named)
        except ssl.SSLError:
            raise _unusable(variable, "it holds no certificate in PEM") from None
        except (OSError, ValueError) as error:
            raise _unusable(variable, getattr(error, "strerror", None) or "not a path") from None

    load("SSL_CERT_FILE", lambda context, file: context.load_verify_locations(cafile=file))
    load("SSL_CERTIFICATE", lambda context, file: context.load_cert_chain(file))
    load("SSLKEYLOGFILE", lambda context, file: setattr(context, "keylog_filename", file))
    folders = environ.get("SSL_CERT_DIR", "").split(os.pathsep)
    if any(folders) and not any(map(os.path.isdir, folders)):
        raise _unusable("SSL_CERT_DIR", "no such folder")


def _unusable(variable: str, reason: str) -> UsageError:
    return UsageError(f"{variable} cannot be used: {reason}", f"Correct {variable}, or unset it.")
