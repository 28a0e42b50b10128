"""Addresses, proxies and certificates of the environment: read, refused, named where they fail."""

from __future__ import annotations

import random
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aethr.base import network
from aethr.base.errors import ModelError, UsageError
from aethr.base.records import ModelSpec
from aethr.llm import Deadlines
from aethr.llm.model import ModelBackend
from aethr.llm.routes import VARIABLE, route
from tests.llm.test_model import KEY, request
from tests.model_server import ModelServer, Reply

LABEL = "a" * 64
BROKEN = (
    ":8080", "http://", "http://:8080", "foo://x", "http://[::1", "http://::1]:80", f"http://{LABEL}.example",
    "http://ex..ample", "http://a.example:port", "http://a.example:65536", "http://a.example:0",
    "http://a.example:-1", "http://a.example:" + "9" * 5000, "http://a\x01b", "http://a b", "http://a\tb",
    "http://999.1.1.1", "http://[1.2.3.4]", "http://[::1]x", "http://xn--a-\xe9",
    "http://\N{ZERO WIDTH SPACE}.example", "http://\udce9.example", "http://a\\b", "http://u:p@", "http://.",
    "http://" + "a." * 200 + "example", "http://a.example/" + "x" * 70_000, "http:///path", "http://a%zz",
    "http://\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}example",
)  # fmt: skip
SOUND = (
    "http://proxy.example:8080", "https://proxy.example", "http://u:p%40ss@proxy.example:8080/", "http://[::1]:80",
    "http://127.0.0.1:1", "http://my_service:8000/v1", "http://b\xfccher.example",
    "http://localhost.", "http://a.example:", " http://a.example ", "http://a.example/v1?x=y",
)  # fmt: skip


# --- addresses ---------------------------------------------------------------------------------


def reachable(text: str) -> None:
    """What httpx and the name lookup make of an address, as far as that needs no network."""
    url = httpx.URL(text)
    url.raw_host.decode("ascii").encode("idna")  # what socket.getaddrinfo does first
    httpx.Proxy(text)
    assert url.host
    assert url.port is None or 0 < url.port < 65536


@pytest.mark.parametrize("text", SOUND)
def test_a_valid_address_is_accepted(text: str) -> None:
    network.address(text)
    reachable(text.strip())


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_an_invalid_address_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it") as caught:
        network.address(text)
    assert text not in str(caught.value)


PIECES = st.sampled_from(
    ["http://", "https://", "a", "example", ".", "..", ":", "80", "[", "]", "::1", "@", "/", "?", "#", "%41",
     "%", "-", "_", "\\", " ", "é", "ß", "\u3002", "127.0.0.1", "1.2.3.4.5", LABEL, "xn--", "\x7f",
     "fe80::1%eth0"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=20).map("http://{}".format))
@example("http://xn--")
@example("http://[fe80::1%eth0]")
def test_an_accepted_address_raises_nothing_later(text: str) -> None:
    try:
        network.address(text)
    except ValueError:
        return
    reachable(text.strip())


# --- NO_PROXY ----------------------------------------------------------------------------------

DIRECT = (
    ("::1", "http://[::1]:8000"), ("[::1]", "http://[::1]:8000"), ("[::1]:8000", "http://[::1]:8000"),
    ("fe80::/10", "http://[fe90::1]"), ("[fe80::]/10", "http://[fe90::1]"), ("10.0.0.0/8", "http://10.1.2.3"),
    ("10.1.2.3/8", "http://10.9.9.9"), ("127.0.0.1", "http://127.0.0.1:1"), ("*", "http://a.example"),
    ("b, *", "http://a.example"), (" a.example , ", "http://a.example"), ("b a.example", "http://a.example"),
    (".a.example", "http://a.example"), (".a.example", "http://x.a.example"), ("a.example", "http://x.a.example"),
    ("*.a.example", "http://x.a.example"), ("A.Example.", "http://a.example"), ("a.example", "http://A.EXAMPLE."),
    ("a.example:8000", "http://a.example:8000"), ("a.example:443", "https://a.example"), (",,a.example,,", "http://a.example"),
    ("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "http://xn--bcher-kva.example"),
    ("http://a.example", "http://a.example"), ("all://a.example", "https://a.example"), ("example", "http://a.example"),
    ("[::1,fe80::/999,a.example:99999999,a.example", "http://a.example"),
)  # fmt: skip
PROXIED = (
    ("", "http://a.example"), ("a.example:8001", "http://a.example:8000"), ("b.example", "http://a.example"),
    ("mple", "http://a.example"), ("https://a.example", "http://a.example"), ("10.0.0.0/33", "http://10.0.0.1"),
    ("10.0.0.0/8", "http://11.0.0.1"), ("10.0.0.0/8", "http://[::1]"), ("10.0.0.0/8", "http://ten.example"),
    ("fe80::/10", "http://10.0.0.1"), (".", "http://a.example"), ("*.", "http://a.example"), ("[", "http://a.example"),
    ("a.example/8", "http://a.example"), (LABEL * 70, "http://a.example"), ("[::1", "http://[::1]"),
    ("\udce9", "http://a.example"), ("a.example:80:80", "http://a.example"), ("://", "http://a.example"),
)  # fmt: skip


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    ("entries", "url", "proxied"), [(*row, False) for row in DIRECT] + [(*row, True) for row in PROXIED]
)
def test_no_proxy_excludes_hosts(entries: str, url: str, proxied: bool, variable: str) -> None:
    found = network.proxies({"ALL_PROXY": "http://p.example", variable: entries})
    assert (found.on_the_way_to(urlsplit(url)) is not None) == proxied


@given(st.lists(PIECES | st.sampled_from([",", "*", "/8", "/10"]), max_size=12).map("".join) | st.text())
def test_any_entry_of_no_proxy_is_read(entries: str) -> None:
    found = network.proxies({"ALL_PROXY": "http://p.example", "NO_PROXY": entries})
    for url in ("http://a.example", "http://[::1]:8", "https://10.0.0.1"):
        found.on_the_way_to(urlsplit(url))


def test_proxy_variables_have_the_precedence_of_curl() -> None:
    named = {
        "http_proxy": "a:1",
        "HTTP_PROXY": "b:1",
        "ALL_PROXY": "c:1",
        "https_proxy": "",
        "HTTPS_PROXY": "d:1",
    }
    found = network.proxies(named)
    plain, tls = (found.on_the_way_to(urlsplit(f"{scheme}://x.example")) for scheme in ("http", "https"))
    assert plain == network.Proxy("http_proxy", "http://a:1")
    assert tls == network.Proxy("ALL_PROXY", "http://c:1")


# --- refused before the first call, over both transports ---------------------------------------


@pytest.fixture(params=[pytest.param("litellm", marks=pytest.mark.slow), "direct"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


def asked(environ: Mapping[str, str], transport: str, base: str, model: str = "openai:gpt-4o-mini") -> str:
    """What one call answers, or the error of its preflight or of itself."""
    given = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": base,
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": base,
    }
    environ = {**environ, **given, VARIABLE: transport}
    limits = Deadlines(silence_s=10, whole_s=30)
    backend = ModelBackend(environ, route(environ), limits, sleep=lambda _: None)
    wanted = request()._replace(model=ModelSpec(model))
    try:
        backend.preflight([wanted])
        return "".join(getattr(event, "text", "") for event in backend.complete(wanted))
    except ModelError as error:
        return f"{error} {error.fix}"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_an_invalid_proxy_is_refused_by_its_variable(text: str, variable: str, transport: str) -> None:
    with pytest.raises(UsageError, match=f"^{variable} is not the address of a proxy: it") as caught:
        asked({variable: text}, transport, "http://127.0.0.1:1/v1")
    assert "\n" not in str(caught.value)
    assert len(text) < 8 or text not in str(caught.value) + caught.value.fix


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_an_invalid_base_url_is_refused_by_its_variable(text: str, transport: str) -> None:
    said = r"^openai: OPENAI_BASE_URL is not an http or https address: it"
    with pytest.raises(UsageError, match=said):
        asked({}, transport, text)


@pytest.mark.skipif(network.find_spec("socksio") is not None, reason="socksio is installed")
def test_a_socks_proxy_needs_its_package_only_if_used(transport: str) -> None:
    with pytest.raises(UsageError, match=r"^ALL_PROXY: a SOCKS proxy needs the package socksio"):
        asked({"ALL_PROXY": "socks5://127.0.0.1:1"}, transport, "http://127.0.0.1:1/v1")
    network.proxies({"ALL_PROXY": "socks5://127.0.0.1:1", "http_proxy": "p:1", "https_proxy": "p:1"})


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("SSL_CERT_FILE", "No such file or directory"), ("SSL_CERT_FILE", "Is a directory"),
        ("SSL_CERT_FILE", "it holds no certificate in PEM"), ("SSL_CERT_DIR", "no such folder"),
        ("SSLKEYLOGFILE", "Is a directory"), ("SSL_CERTIFICATE", "No such file or directory"),
        ("SSL_CERTIFICATE", "it holds no certificate in PEM"),
    ],
)  # fmt: skip
def test_a_variable_without_a_certificate_is_refused(tmp_path: Path, variable: str, said: str) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    places = {"Is a directory": tmp_path, "it holds no certificate in PEM": empty}
    with pytest.raises(UsageError) as caught:
        asked({variable: str(places.get(said, "/nowhere/at-all"))}, "litellm", "http://127.0.0.1:1/v1")
    assert str(caught.value) == f"{variable} cannot be used: {said}"


# --- on the way --------------------------------------------------------------------------------


@contextmanager
def proxy_saying(reply: bytes) -> Iterator[int]:
    """A proxy that answers every request with these bytes, until the block ends; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def http_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer(lambda _: Reply(("by the proxy",))) as server:
        monkeypatch.setenv("HTTP_PROXY", server.origin)
        yield server


def test_a_call_uses_the_proxy(http_proxy: ModelServer, transport: str) -> None:
    assert asked({}, transport, "http://nowhere.invalid/v1") == "by the proxy"
    assert http_proxy.requests[0]["path"] == "http://nowhere.invalid/v1/chat/completions"


@pytest.mark.parametrize("entry", ["[::1],127.0.0.0/8", "fe80::/10, .127.0.0.1", "*", "[::1,127.0.0.1"])
def test_a_host_in_no_proxy_is_called_directly(
    http_proxy: ModelServer, transport: str, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    monkeypatch.setenv("NO_PROXY", entry)
    with ModelServer([Reply(("directly",))]) as server:
        assert asked({"NO_PROXY": entry}, transport, server.base_url) == "directly"
    assert http_proxy.requests == []


@pytest.mark.parametrize("model", ["openai:gpt-4o-mini", "anthropic:claude-x"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "connection refused"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407 Proxy"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502 Bad Gateway"),
    ],
)  # fmt: skip
def test_a_proxy_that_fails_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    variable: str,
    model: str,
    reply: bytes | None,
    reason: str,
) -> None:
    scheme = "http" if variable == "HTTP_PROXY" else "https"
    if scheme == "http" and reason.startswith("502"):
        pytest.skip("a 502 of an unencrypted call may be the server's own")
    with proxy_saying(reply or b"") as answering:
        port = answering if reply else 1
        monkeypatch.setenv(variable, f"http://user:hunter22222@127.0.0.1:{port}")
        way = "litellm" if model.startswith("anthropic") else transport
        said = asked({}, way, f"{scheme}://nowhere.invalid/v1", model)
    assert f"the proxy http://127.0.0.1:{port} ({variable}): {reason}" in said, said
    assert "hunter" not in said


def test_a_call_that_the_proxy_refuses_is_not_retried(
    monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """Companies lock accounts after a few wrong passwords."""
    reply = Reply(status=407, body="")
    with ModelServer(lambda _: reply) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        assert "407" in asked({}, transport, "http://nowhere.invalid/v1")
        assert len(proxy.requests) == 1


# --- any environment ---------------------------------------------------------------------------

VARIABLES = (
    "HTTP_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OPENAI_API_BASE",
)


def test_no_value_of_the_environment_is_a_bug(transport: str) -> None:
    """Whatever these variables hold, a call may begin or is refused with the name of one of them."""
    generator = random.Random(12)
    values = [*BROKEN, *SOUND, *(row[0] for row in DIRECT + PROXIED), "/", "/nowhere", "\udcff", "1" * 10_000]
    for _ in range(300):
        environ = {name: generator.choice(values) for name in VARIABLES if generator.random() < 0.3}
        base = environ.get("OPENAI_API_BASE", "http://127.0.0.1:1/v1")
        backend = ModelBackend({**environ, "OPENAI_BASE_URL": base}, route({VARIABLE: transport}))
        said = _refusal(backend)
        assert not said or re.match(
            rf"(?:openai: )?(?:{'|'.join((*VARIABLES, 'OPENAI_BASE_URL'))})\b", said
        ), said
        assert "\n" not in said


def _refusal(backend: ModelBackend) -> str:
    try:
        backend.preflight([request()])
    except UsageError as error:
        return str(error)
    return ""
