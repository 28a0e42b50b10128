"""Calls without LiteLLM: the wire, what a call leaves behind, and which models are called directly."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aethr.base.errors import ModelError, UsageError
from aethr.base.records import Completion, ModelSpec
from aethr.llm import Call, Chunk, Deadlines, Endpoint
from aethr.llm.exchange import Direct
from aethr.llm.model import ModelBackend
from aethr.llm.protocols import DIRECT
from aethr.llm.routes import VARIABLE, load_ahead, route
from tests.llm.test_model import GPT, KEY, PATIENT, SHORT, request
from tests.model_server import ModelServer, Reply, error

ANSWER = b'data: {"choices": [{"delta": {"content": "Hello."}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 %s\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"


def backend(base: str, limits: Deadlines = PATIENT) -> ModelBackend:
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": base, VARIABLE: "direct"}
    return ModelBackend(environ, route(environ), limits, sleep=lambda _: None)


def answer(base: str) -> Completion:
    def read() -> Iterator[Any]:
        ended.append((yield from backend(base).complete(request())))

    ended: list[Completion] = []
    list(read())
    return ended[0]


def failure(base: str) -> str:
    with pytest.raises(ModelError) as caught:
        answer(base)
    return str(caught.value)


@contextmanager
def server_sending(*pieces: bytes, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that sends these bytes to each client; yields its base URL."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)

        def answer_one() -> None:
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) if context else plain as client:
                client.settimeout(5)
                read_request(client)
                for piece in pieces:
                    client.sendall(piece)

        def serve() -> None:
            while not stop.is_set():
                with suppress(OSError):  # no client, or one that left early
                    answer_one()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            scheme = "https" if context else "http"
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            stop.set()
            thread.join()


def read_request(client: socket.socket) -> None:
    """Read all of it: closing before would reset the connection."""
    read = b""
    while (length := re.search(rb"(?i)content-length: (\d+).*?\r\n\r\n", read, re.DOTALL)) is None or (
        len(read) - length.end() < int(length[1])
    ):
        read += client.recv(65536)


# --- the wire ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_is_not_followed(status: int) -> None:
    with ModelServer([Reply()]) as other:
        there = f"{other.base_url}/chat/completions"
        with ModelServer([error(status, Location=there)]) as server:
            line = failure(server.base_url)
        assert other.requests == []
    assert line == (
        f"{GPT}: no such model or address at {server.base_url} ({status}): it redirects to {there}"
    )


@pytest.mark.parametrize("end", ["length", "close"])
def test_a_compressed_answer_is_read(end: str) -> None:
    packed = gzip.compress(ANSWER)
    length = b"Content-Length: %d\r\n" % len(packed) if end == "length" else b""
    head = HEAD % b"200 OK" + length + b"Content-Encoding: gzip\r\n\r\n"
    with server_sending(head, packed[:20], packed[20:]) as base:
        assert answer(base).content == "Hello."


def test_broken_compression_is_an_error() -> None:
    with server_sending(HEAD % b"200 OK" + b"Content-Encoding: gzip\r\n\r\n" + ANSWER) as base:
        assert "not in the protocol" in failure(base)


@pytest.mark.parametrize("status", [b"500 Oops", b"200 OK"])
def test_reading_stops_early_in_a_body_without_line_ends(status: bytes) -> None:
    with server_sending(HEAD % status + b"\r\n", *[b"x" * (1 << 20)] * 64) as base:
        line = failure(base)
    assert "the provider failed (500): xxx" in line or "an event is longer than 16,777,216 bytes" in line


@pytest.mark.parametrize("reply", [b"", b"\x00\x01\x02\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_a_reply_that_is_not_http_is_a_broken_connection(reply: bytes) -> None:
    with server_sending(reply) as base:
        assert failure(base).startswith(f"{GPT}: no connection at {base}")


def test_a_proxy_of_the_environment_is_used_unless_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer([Reply(("through a proxy",))]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        assert answer("http://nowhere.invalid/v1").content == "through a proxy"
        assert proxy.requests[0]["path"] == "http://nowhere.invalid/v1/chat/completions"
        monkeypatch.setenv("NO_PROXY", "nowhere.invalid")
        assert "no such host" in failure("http://nowhere.invalid/v1")
        assert len(proxy.requests) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_certificate_of_the_environment_is_trusted(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x", "-keyout", key, "-out", cert]
    subprocess.run(
        ["openssl", "req", "-x509", "-addext", "subjectAltName=IP:127.0.0.1", *words],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    code = "import sys; from tests.llm.test_direct import *; print(answer(sys.argv[1]).content)"
    said = []
    with server_sending(HEAD % b"200 OK" + b"\r\n" + ANSWER, context=context) as base:
        for trusted in (str(cert), "", str(tmp_path / "missing.pem")):
            env = {**os.environ, "SSL_CERT_FILE": trusted}
            done = subprocess.run(
                [sys.executable, "-c", code, base], env=env, capture_output=True, text=True, check=False
            )
            said.append(done.stdout or done.stderr.splitlines()[-1])
    assert said[0] == "Hello.\n"
    assert "no secure connection" in said[1]
    assert "certificate" in said[1].lower()
    assert "SSL_CERT_FILE cannot be used: No such file or directory" in said[2]


# --- what is left behind -----------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    "reply",
    [Reply(), Reply(("half",), fault="stall"), Reply(fault="never"), Reply(fault="reset_mid"), error(401)],
    ids=["an answer", "stall", "never", "reset", "refused"],
)
def test_no_socket_outlives_its_call(reply: Reply) -> None:
    limits = SHORT if reply.fault else PATIENT
    with ModelServer(lambda _: reply) as server:
        before = sockets()
        stream = backend(server.base_url, limits).complete(request())
        with suppress(ModelError):
            list(stream)
    for thread in threading.enumerate():
        if thread.name == "aethr-call":
            thread.join(5)
    assert sockets() <= before


def sockets() -> set[str]:
    """The open sockets of this process, by their inodes."""
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return {to for link in links if link.is_symlink() and (to := str(link.readlink())).startswith("socket:")}


def test_an_unfinished_answer_is_hung_up_from_another_thread() -> None:
    with ModelServer([Reply(("half",), fault="stall")]) as server:
        call = Call("hi", ModelSpec(GPT), Endpoint(KEY, server.base_url), PATIENT, None)
        stream = Direct().open(call, lambda: None)
        chunks = stream.chunks()
        assert next(chunk for chunk in chunks if chunk.text) == Chunk("half")
        hanging = threading.Thread(target=stream.hang_up)
        hanging.start()
        with pytest.raises(Exception, match=r"closed inside|reset"):
            next(chunks)
        hanging.join()
        stream.hang_up()
        server.wait_abandoned()


def test_a_direct_call_imports_neither_litellm_nor_extras(tmp_path: Path) -> None:
    code = """
import sys, os
from aethr.workflow.backends import BACKENDS
from aethr.base.records import ModelSpec, Request
from pathlib import Path
model = BACKENDS["model"].build(dict(os.environ))
asked = Request("s", "r", "p", ModelSpec("openai:gpt-4o-mini"), Path())
model.preflight([asked])
model.warm([asked])
_, *shown = model.complete(asked)
assert [event.text for event in shown] == ["Hello", ", world."]
assert None not in sys.modules.values()
print(sorted({"litellm", "openai", "pydantic", "rich", "click", "h2"} & set(sys.modules)))
import httpx, httpcore._sync.http2
"""
    with ModelServer([Reply()]) as server:
        environ = {**os.environ, "OPENAI_BASE_URL": server.base_url}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


# --- the choice of the transport ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word", "transport"),
    [
        ("openai:gpt-4o-mini", "", "direct"),
        ("openai/gpt-4o-mini", "auto", "direct"),
        ("vllm:some-model", "auto", "direct"),
        ("lmstudio:some-model", "auto", "direct"),
        ("x-ai:grok-4.3", "auto", "direct"),
        ("openrouter:acme/some-model", "direct", "direct"),
        ("openai:gpt-4o-mini", "litellm", "litellm"),
        ("openai:gpt-5-codex", "auto", "direct"),
        ("xai:grok-4.20-multi-agent", "auto", "direct"),
        ("fireworks_ai:accounts/fireworks/models/m", "auto", "direct"),
        ("fireworks_ai:short-for-another", "auto", "litellm"),
        ("anthropic:claude-x", "auto", "direct"),
        ("anthropic:claude-opus-5-5", "direct", "direct"),
        ("google:gemini-2.5-pro", "auto", "direct"),
        ("google:gemini-3.1-flash-live-preview", "auto", "litellm"),
        ("ollama:some-model", "auto", "direct"),
        ("groq:some-model", "auto", "direct"),
        ("cohere_chat:some-model", "auto", "litellm"),
    ],
)
def test_the_transport_of_each_model_and_setting(name: str, word: str, transport: str) -> None:
    assert route({VARIABLE: word})(name).name == transport


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai:gpt-4o", "OPENAI_ORG_ID"),
        ("openrouter:acme/some-model", "OR_SITE_URL"),
        ("xai:grok-x", "SSL_VERIFY"),
        ("mistral:some-model", "MISTRAL_AZURE_API_BASE"),
    ],
)
def test_a_variable_that_only_litellm_reads_selects_litellm(name: str, variable: str) -> None:
    assert route({variable: "x"})(name).name == "litellm"
    with pytest.raises(UsageError, match=f"{name}: not with AETHR_TRANSPORT=direct: only LiteLLM reads"):
        route({variable: "x", VARIABLE: "direct"})(name)


@pytest.mark.parametrize(
    "name", ["google:gemini-3.1-flash-live-preview", "openai:openai/o3", "cohere_chat:some-model"]
)
def test_direct_refuses_what_it_cannot_call(name: str) -> None:
    environ = {VARIABLE: "direct", "OPENAI_API_KEY": KEY, "GOOGLE_API_KEY": KEY}
    with pytest.raises(UsageError) as caught:
        ModelBackend(environ, route(environ)).preflight([request(name)])
    assert str(caught.value) == (
        f"{name}: not with AETHR_TRANSPORT=direct: only LiteLLM can call it; "
        f"Aethr itself calls models of {', '.join(DIRECT)}"
    )
    assert caught.value.fix == "Unset AETHR_TRANSPORT."


def test_an_unknown_transport_is_refused() -> None:
    with pytest.raises(UsageError, match="AETHR_TRANSPORT=DIRECT: not one of auto, direct, litellm"):
        route({VARIABLE: "DIRECT"})


def test_a_failed_early_import_fails_in_the_call() -> None:
    class Broken(Direct):
        tried = threading.Event()

        def load(self) -> None:
            self.tried.set()
            raise ImportError("not installed")

    load_ahead([Broken()])
    assert Broken.tried.wait(5)
    for thread in threading.enumerate():
        if thread.name == "aethr-load":
            thread.join(5)
