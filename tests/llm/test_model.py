"""Model calls through each transport against a real server on loopback: the same answers and errors."""

from __future__ import annotations

import gc
import json
import operator
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from aethr.base.errors import AethrError, BudgetError, ModelError
from aethr.base.records import (
    Allowance,
    Completion,
    ModelSpec,
    Request,
    Sent,
    Spent,
    TextDelta,
    Thinking,
    Usage,
)
from aethr.llm import Alive, Call, Chunk, Deadlines, Endpoint, spending, transport_litellm
from aethr.llm.model import ModelBackend, own_server
from aethr.llm.routes import VARIABLE, route
from aethr.llm.spending import estimate_tokens
from tests.dialects import DIALECTS, Dialect
from tests.model_server import ModelServer, Reply, Script, error

KEY = "sk-test-0123456789"
GPT = "openai:gpt-4o-mini"
LATEST = "openai:gpt-mini-latest"
VLLM = "hosted_vllm:some-model"
PATIENT = Deadlines(silence_s=10, whole_s=30)
SHORT = Deadlines(silence_s=0.15, linger_s=0.15, whole_s=0.5)
HTML = (
    "<!doctype html><html><head><title>Bad\n Gateway</title></head><body>"
    + "<p>x</p>" * 500
    + "</body></html>"
)


@pytest.fixture(scope="module", autouse=True)
def litellm_is_loaded() -> None:
    """Its import and first call take two seconds, which must not count against the short deadlines here."""
    transport_litellm.load()
    for way in WAYS.values():
        with ModelServer([Reply(("ok",), way.finished)]) as server:
            environ = {**environ_for(way, server), VARIABLE: "litellm"}
            list(backend(environ, limits=PATIENT).complete(request(way.model)))


@pytest.fixture(autouse=True, params=[pytest.param("litellm", marks=pytest.mark.slow), "direct"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The transport of a test's calls: LiteLLM, or direct if the provider can be called directly."""
    monkeypatch.setenv(VARIABLE, "litellm" if request.param == "litellm" else "auto")
    return request.param


@dataclass(frozen=True)
class Way:
    """How to reach a provider on the test server, and how it speaks."""

    model: str
    base: str
    path: str = "/v1"
    speaks: str = "/chat/completions"
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.speaks]

    @property
    def finished(self) -> str:
        """The finish reason of a complete answer."""
        return self.dialect.ends.get("stop", "stop")


WAYS = {
    way.model.partition(":")[0]: way
    for way in (
        Way(GPT, "OPENAI_BASE_URL", keys={"OPENAI_API_KEY": KEY}),
        Way(VLLM, "HOSTED_VLLM_API_BASE"),
        Way("lm_studio:some-model", "LM_STUDIO_API_BASE"),
        Way("openrouter:acme/some-model", "OPENROUTER_API_BASE", keys={"OPENROUTER_API_KEY": KEY}),
        Way("xai:grok-x", "XAI_API_BASE", keys={"XAI_API_KEY": KEY}),
        Way("ollama:some-model", "OLLAMA_API_BASE", "", "/api/chat"),
        Way("anthropic:claude-x", "ANTHROPIC_BASE_URL", "", "/messages", {"ANTHROPIC_API_KEY": KEY}),
        Way("google:gemini-x", "GEMINI_API_BASE", "", ":streamGenerateContent", {"GOOGLE_API_KEY": KEY}),
    )
}
CODEX = "openai:gpt-5-codex"
WAYS["responses"] = Way(CODEX, "OPENAI_BASE_URL", speaks="/responses", keys={"OPENAI_API_KEY": KEY})
LANES = ("openai", "hosted_vllm", "anthropic", "google", "responses")
"""One provider for each protocol and, of chat completions, for each client that LiteLLM calls with."""


@dataclass
class Outcome:
    """Everything that one call showed."""

    requests: list[dict[str, Any]]
    sleeps: list[float]
    deltas: list[str]
    notices: list[str]
    completion: Completion | None = None
    error: AethrError | None = None
    thoughts: int = 0
    spent: list[Usage] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    @property
    def done(self) -> Completion:
        assert self.completion is not None, self.error
        return self.completion

    @property
    def line(self) -> str:
        assert self.error is not None, self.completion
        assert "\n" not in str(self.error) + self.error.fix
        return str(self.error)


def request(model: ModelSpec | str = GPT, prompt: str = "Look at this.", **fields: Any) -> Request:
    spec = ModelSpec(model) if isinstance(model, str) else model
    return Request("review", "reviewer", prompt, spec, Path(), **fields)


def backend(
    environ: Mapping[str, str], sleeps: list[float] | None = None, limits: Deadlines = PATIENT
) -> ModelBackend:
    recorded: list[float] = [] if sleeps is None else sleeps
    way = route({VARIABLE: os.environ.get(VARIABLE, ""), **environ})
    return ModelBackend(environ, way, limits, sleep=recorded.append)


def environ_for(way: Way, server: ModelServer) -> dict[str, str]:
    return {**way.keys, way.base: server.origin + way.path}


def call(
    script: Script,
    asked: Request | None = None,
    limits: Deadlines = PATIENT,
    before_the_server_ends: Callable[[ModelServer], None] = lambda _: None,
) -> Outcome:
    asked = asked or request()
    assert asked.model is not None
    way = WAYS["responses" if asked.model.name == CODEX else asked.model.name.partition(":")[0]]
    with ModelServer(script) as server:
        outcome = Outcome(server.requests, [], [], [])
        stream = backend(environ_for(way, server), outcome.sleeps, limits).complete(asked)
        try:
            while True:
                event = next(stream)
                if isinstance(event, Thinking):
                    outcome.thoughts += 1
                elif isinstance(event, Spent):
                    outcome.spent.append(event.usage)
                elif isinstance(event, Sent):
                    outcome.sent.append(event)
                else:
                    (outcome.deltas if isinstance(event, TextDelta) else outcome.notices).append(event.text)
        except StopIteration as end:
            outcome.completion = end.value
        except AethrError as failure:
            outcome.error = failure
        before_the_server_ends(server)
    return outcome


# --- a good answer -----------------------------------------------------------------------------


def test_an_answer_streams_with_its_usage_and_cost(transport: str) -> None:
    outcome = call([Reply(("Hello", ", ", "world."), usage=(1000, 100))])
    assert outcome.deltas == ["Hello", ", ", "world."]
    assert outcome.done == Completion(
        content="Hello, world.",
        model=GPT,
        finish_reason="stop",
        usage=Usage(1000, 100, 1100, pytest.approx(0.00021)),
        transport=transport,
    )


def test_the_request_has_only_the_prompt_and_the_settings() -> None:
    spec = ModelSpec(GPT, temperature=0.0, seed=7, max_tokens=99)
    (sent,) = call([Reply()], request(spec, prompt="Ünïcode {0} %s $HOME")).requests
    assert sent["headers"]["authorization"] == f"Bearer {KEY}"
    assert sent["body"] == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Ünïcode {0} %s $HOME"}],
        "temperature": 0.0,
        "seed": 7,
        "max_tokens": 99,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("name", WAYS)
def test_each_provider_streams_from_its_base_url(name: str) -> None:
    way = WAYS[name]
    outcome = call([Reply(("Hel", "lo."), way.finished, usage=(10, 5))], request(way.model))
    assert outcome.done.content == "Hello."
    assert (outcome.done.finish_reason, outcome.done.truncated) == (way.finished, False)
    parts = {"cached_tokens": None, "reasoning_tokens": None}  # which only some protocols always have
    assert outcome.done.usage._replace(cost_usd=None, **parts) == Usage(10, 5, 15, None)
    headers = outcome.requests[0]["headers"]
    assert any(KEY in value for value in headers.values()) is bool(way.keys)


@pytest.mark.parametrize("name", ["hosted_vllm", "lm_studio"])
def test_your_own_server_may_need_a_key(name: str) -> None:
    way = WAYS[name]
    with ModelServer([Reply()]) as server:
        environ = {**environ_for(way, server), f"{name.upper()}_API_KEY": KEY}
        list(backend(environ).complete(request(way.model)))
        assert server.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"


def test_cached_tokens_are_charged_at_their_own_price() -> None:
    full = call([Reply(usage=(1000, 5))]).done.usage.cost_usd
    cached = call([Reply(usage=(1000, 5), cached=800)]).done.usage.cost_usd
    assert full is not None
    assert cached is not None
    assert cached == pytest.approx(full - 800 * 7.5e-08)


def test_an_unknown_price_is_unknown_and_not_zero() -> None:
    assert call([Reply()], request("openai:of-our-own")).done.usage.cost_usd is None


def test_missing_token_counts_are_noted() -> None:
    done = call([Reply(usage=None)]).done
    assert done.usage == Usage()
    assert done.notes == ("the provider sent no token counts: whether it read the whole prompt is not known",)


def test_a_hosted_provider_without_counts_is_not_suspect() -> None:
    call = Call("", ModelSpec(GPT), Endpoint(KEY), PATIENT, None)
    assert not own_server(call)
    assert own_server(call._replace(endpoint=Endpoint(KEY, "http://127.0.0.1:1/v1")))
    assert own_server(call._replace(model=ModelSpec("ollama:m"), endpoint=Endpoint()))


@pytest.mark.parametrize("count", [10**400, -(10**400), 1 << 60])
def test_an_implausible_token_count_is_ignored(count: int) -> None:
    done = call([Reply(usage=(count, 5))]).done
    assert (done.content, done.usage) == ("Hello, world.", Usage())
    assert done.notes == ("the provider sent no token counts: whether it read the whole prompt is not known",)


def test_missing_counts_are_estimated_for_an_allowance() -> None:
    done = call(
        [Reply(("123456",), usage=None)], request(prompt="123", allowance=Allowance(tokens=9000))
    ).done
    assert done.usage.total_tokens == 1 + 2
    assert "estimates" in done.notes[0]


def test_a_setting_that_the_model_does_not_take_is_named() -> None:
    outcome = call([Reply()], request(ModelSpec("openai:gpt-5", temperature=0.0, seed=7)))
    assert "temperature" not in outcome.requests[0]["body"]
    assert outcome.done.notes == ("openai:gpt-5 does not take temperature: it was not sent",)


def test_a_hundred_equal_pieces_are_one_answer() -> None:
    assert call([Reply(("na ",) * 150)]).done.content == "na " * 150


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("name", LANES)
def test_letters_split_over_packets_are_joined(name: str, size: int) -> None:
    outcome = call([Reply(("né😀", "漢字"), packets=size)], request(WAYS[name].model))
    assert outcome.done.content == "né😀漢字"


def test_surrogates_split_over_chunks_are_joined() -> None:
    outcome = call([Reply(("a\ud83d", "\ude00b", "\ude00c", "d\ud83d"))])
    assert outcome.done.content == "a😀b\ufffdcd\ufffd"
    assert "".join(outcome.deltas) == outcome.done.content


def test_nothing_is_written_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    call([Reply(), Reply()])
    call([error(500), error(429), error(503)])
    call([error(401)], request("openai:no-such"))
    assert capfd.readouterr() == ("", "")


# --- no usable answer --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "length") for name in LANES),
        *((name, "a word of tomorrow") for name in LANES if name != "responses"),  # there it is broken
        *((name, "content_filter") for name in ("openai", "hosted_vllm", "google")),
        *(("anthropic", reason) for reason in ("pause_turn", "model_context_window_exceeded")),
        *(("google", reason) for reason in ("CONTINUATION", "MODEL_ARMOR", "PUP_LIMITED_DISABLED", "OTHER")),
    ],
)
def test_an_answer_without_a_normal_end_is_marked_as_cut(name: str, reason: str) -> None:
    done = call([Reply(("half",), reason)], request(WAYS[name].model)).done
    word = WAYS[name].dialect.ends.get(reason, reason)
    assert (done.content, done.finish_reason, done.truncated) == ("half", word, True)


CUTS = ["cut", "done_only", "cut_body", "reset_mid", "error_event"]


@pytest.mark.parametrize("fault", CUTS)
@pytest.mark.parametrize("name", [*LANES, "lm_studio", "openrouter", "xai"])
def test_a_broken_stream_is_retried_once_and_starts_over(name: str, fault: Any) -> None:
    outcome = call([Reply(("half",), fault=fault), "whole"], request(WAYS[name].model))
    assert outcome.done.content == "whole"
    assert outcome.deltas == ["half", "whole"]
    assert [n for n in outcome.notices if "after 4 characters" in n and "the answer starts over (2/3)" in n]
    assert "paid for too" in outcome.done.notes[0]


@pytest.mark.skipif(spending.served_as(LATEST) == LATEST, reason="older price files have no such names")
def test_the_model_that_a_name_stands_for_is_called_and_recorded() -> None:
    outcome = call([Reply()], request(LATEST))
    assert outcome.completion is not None
    assert outcome.completion.model == spending.served_as(LATEST)
    assert f"openai:{outcome.requests[0]['body']['model']}" == spending.served_as(LATEST)


@pytest.mark.parametrize("name", ["anthropic", "google", "responses", "ollama"])
def test_a_clean_cut_is_detected_in_other_protocols(name: str) -> None:
    outcome = call([Reply(("half",), fault="cut")] * 2, request(WAYS[name].model))
    assert "the answer was cut off" in outcome.line


def test_a_stream_that_breaks_twice_is_an_error() -> None:
    outcome = call([Reply(("half",), fault="cut")] * 3)
    assert len(outcome.requests) == 2
    assert outcome.line == (
        f"{GPT}: the answer was cut off: the stream ended without a finish reason after 4 characters"
    )


def test_a_finish_reason_of_error_is_an_error() -> None:
    outcome = call([Reply(("half",), "error")] * 2, request("openrouter:acme/some-model"))
    assert "the provider failed" in outcome.line


@pytest.mark.parametrize("chunks", [(), (" \n ",)])
@pytest.mark.parametrize("name", LANES)
def test_an_empty_answer_is_an_error(name: str, chunks: tuple[str, ...]) -> None:
    way = WAYS[name]
    outcome = call([Reply(chunks)] * 3, request(way.model))
    assert outcome.line == f"{way.model}: the answer is empty: no text, finish reason '{way.finished}'"
    assert list(map(streamed, outcome.requests)) == [True, False]


def streamed(sent: Mapping[str, Any]) -> bool:
    """Whether a request asks for a stream: for Gemini its path says so."""
    return bool(sent["body"].get("stream", ":streamGenerateContent" in sent["path"]))


@pytest.mark.parametrize("body", [HTML, "", "{}", "[]", "data: nonsense\n\n"])
@pytest.mark.parametrize("name", LANES)
def test_an_html_page_is_not_an_answer(name: str, body: str) -> None:
    outcome = call([Reply(body=body, content_type="text/html")] * 3, request(WAYS[name].model))
    assert "the answer is not in the protocol at http://127.0.0.1:" in outcome.line
    assert len(outcome.requests) == (1 if "<" in body or "nonsense" in body else 2)


@pytest.mark.parametrize("name", LANES)
def test_broken_json_within_a_stream_is_an_error(name: str) -> None:
    outcome = call([Reply(("half",), fault="bad_json")], request(WAYS[name].model))
    assert "broken JSON" in outcome.line


# --- errors and retries ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai", "hosted_vllm", "anthropic", "google", "responses"])
@pytest.mark.parametrize(
    ("reply", "what", "fix"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "the key was refused (401)", "heck"),
        (error(403, "not for you"), "the key was refused (403): not for you", "heck"),
        (error(404, "no model"), "(404): no model", "Check the model's name"),
        (error(400, "bad thing"), "the request was refused (400): bad thing", "settings"),
        (error(400, "maximum context length is 9"), "too long for the model's window (400)", "context_chars"),
        (error(429, "You exceeded your current quota"), "no credit left (429)", "billing"),
    ],
)
def test_an_error_that_a_retry_cannot_fix_is_not_retried(
    name: str, reply: Reply, what: str, fix: str
) -> None:
    outcome = call([reply], request(WAYS[name].model))
    assert outcome.line.startswith(f"{WAYS[name].model}: ")
    assert what in outcome.line
    assert KEY not in outcome.line
    assert isinstance(outcome.error, ModelError)
    assert fix in outcome.error.fix
    assert (len(outcome.requests), outcome.sleeps) == (1, [])


def test_the_login_command_is_named_when_a_key_is_refused() -> None:
    outcome = call([error(401)])
    assert outcome.error is not None
    assert outcome.error.fix == "Check OPENAI_API_KEY; `aethr auth login openai` replaces it."


@pytest.mark.parametrize("name", ["openai", "hosted_vllm", "anthropic", "google", "responses"])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_temporary_error_is_retried_with_a_notice(name: str, status: int) -> None:
    way = WAYS[name]
    outcome = call([error(status), error(status), Reply(("ok",), way.finished)], request(way.model))
    assert outcome.done.content == "ok"
    assert outcome.sleeps == [1.0, 2.0]
    assert outcome.notices == [
        f"{way.model} answered {status}; retrying in 1 s (2/3)",
        f"{way.model} answered {status}; retrying in 2 s (3/3)",
    ]
    assert outcome.done.notes == ()


def test_a_call_ends_after_three_failed_attempts() -> None:
    outcome = call([error(500, "it burns")] * 4)
    assert outcome.line == f"{GPT}: the provider failed (500): it burns"
    assert len(outcome.requests) == 3


def test_an_html_error_page_becomes_its_title() -> None:
    outcome = call([Reply(status=502, body=HTML, content_type="text/html")] * 3)
    assert outcome.line == f"{GPT}: the provider failed (502): an HTML page: 'Bad Gateway'"


@pytest.mark.parametrize("name", LANES)
def test_retry_after_is_respected(name: str) -> None:
    way = WAYS[name]
    outcome = call([error(429, Retry_After="7"), Reply(("ok",), way.finished)], request(way.model))
    assert outcome.sleeps == [7.0]
    assert outcome.done.content == "ok"


def test_retry_after_may_be_a_date() -> None:
    outcome = call([error(503, Retry_After=formatdate(time.time() + 20, usegmt=True)), "ok"], limits=PATIENT)
    assert outcome.sleeps == [pytest.approx(20, abs=3)]


def test_a_retry_after_that_is_too_long_is_an_error() -> None:
    outcome = call([error(429, "slow down", Retry_After="3600")])
    assert outcome.line == f"{GPT}: too many requests (429): slow down (it asks to wait 3,600 s)"
    assert (outcome.sleeps, len(outcome.requests)) == ([], 1)


def test_a_wait_beyond_the_deadline_is_not_started() -> None:
    outcome = call([error(429, Retry_After="30")], request(ModelSpec(GPT, timeout_s=5)))
    assert "too many requests (429)" in outcome.line
    assert outcome.sleeps == []


@pytest.mark.parametrize("name", LANES)
def test_a_reset_before_the_answer_is_retried(name: str) -> None:
    outcome = call([Reply(fault="reset_before"), "ok"], request(WAYS[name].model))
    assert outcome.done.content == "ok"
    assert outcome.notices == [f"{WAYS[name].model}: connection reset; retrying in 1 s (2/3)"]


def failing(environ: Mapping[str, str], model: str = GPT) -> AethrError:
    with pytest.raises(ModelError) as caught:
        list(backend(environ).complete(request(model)))
    return caught.value


def test_a_refused_connection_names_the_address() -> None:
    with socket.socket() as deaf:  # bound, so that the port stays free, and not listening
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        failure = failing({"OPENAI_BASE_URL": url})
    assert str(failure) == f"{GPT}: no connection at {url}: connection refused"
    assert failure.fix == "Check the network and OPENAI_BASE_URL, then continue with the resume command."


def test_an_unknown_host_is_named_as_the_cause() -> None:
    assert "no such host" in str(failing({"OPENAI_BASE_URL": "http://nowhere.invalid/v1"}))


def test_a_server_without_tls_is_named_as_the_cause() -> None:
    with ModelServer() as server:
        url = server.base_url.replace("http:", "https:")
        assert "no secure connection at https://127.0.0.1" in str(failing({"OPENAI_BASE_URL": url}))


# --- deadlines and interruptions ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai", "hosted_vllm", "google", "anthropic", "ollama"])
def test_a_server_that_never_answers_is_not_retried(
    name: str,
) -> None:
    started = time.monotonic()
    # The request that ended at its deadline may still be under way to the server.
    one_came = operator.methodcaller("wait_for", 1)
    outcome = call([Reply(fault="never")] * 3, request(WAYS[name].model), SHORT, one_came)
    assert outcome.line == f"{WAYS[name].model}: no answer in time: the whole call took longer than 0.5 s"
    assert outcome.error is not None
    assert "Raise the model's timeout_s" in outcome.error.fix
    assert len(outcome.requests) == 1
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("name", ["openai", "hosted_vllm", "google", "anthropic", "ollama"])
def test_a_stalled_stream_is_hung_up_and_not_retried(name: str) -> None:
    limits = SHORT._replace(whole_s=10)
    stalls = [Reply(("half",), fault="stall")] * 2
    outcome = call(stalls, request(WAYS[name].model), limits, ModelServer.wait_abandoned)
    assert "no answer in time: 0.15 s of silence after 4 characters" in outcome.line
    assert outcome.error is not None
    assert "timeout_s" not in outcome.error.fix, "it does not touch this limit"
    assert len(outcome.requests) == 1


class Slow:
    """A transport whose imports take five seconds by its own clock, and its answer no time."""

    name = "slow"

    def __init__(self) -> None:
        self.now = 100.0

    def load(self) -> None:
        self.now += 5

    def open(self, _: Call, __: Alive) -> Slow:
        return self

    def chunks(self) -> Generator[Chunk, None, None]:
        yield Chunk("ok", "stop")

    def hang_up(self) -> None:
        pass


def test_imports_do_not_count_in_the_models_timeout() -> None:
    slow = Slow()
    model = ModelBackend({"OPENAI_API_KEY": KEY}, lambda _: slow, PATIENT, clock=lambda: slow.now)
    *_, delta = model.complete(request(ModelSpec(GPT, timeout_s=1)))
    assert (delta, slow.now) == (TextDelta("ok"), 105.0)


def test_an_endless_drip_ends_with_the_deadline() -> None:
    asked = request(ModelSpec(GPT, timeout_s=0.5))
    started = time.monotonic()
    outcome = call([Reply(("x",), fault="drip", delay_s=0.02)], asked, PATIENT, ModelServer.wait_abandoned)
    assert "no answer in time: the whole call took longer than 0.5 s" in outcome.line
    assert len(outcome.requests) == 1
    assert time.monotonic() - started < 3


def test_an_answer_that_is_too_long_is_stopped() -> None:
    outcome = call([Reply(("x" * 1_000_000,) * 9)])
    assert "longer than 8,000,000 characters" in outcome.line


def test_closing_the_generator_hangs_up() -> None:
    with ModelServer([Reply(("half",), fault="stall")]) as server:
        stream = backend(environ_for(WAYS["openai"], server)).complete(request())
        assert isinstance(next(stream), Sent)
        assert next(stream) == TextDelta("half")
        stream.close()
        server.wait_abandoned()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to one process")
def test_ctrl_c_ends_a_waiting_call_within_two_seconds(tmp_path: Path) -> None:
    code = """
from pathlib import Path
import os
from aethr.workflow.backends import BACKENDS
from aethr.base.records import ModelSpec, Request
model = BACKENDS["model"].build(dict(os.environ))
for event in model.complete(Request("s", "r", "p", ModelSpec("openai:gpt-4o-mini"), Path())):
    pass
"""
    with ModelServer([Reply(fault="never")]) as server:
        environ = {**os.environ, "OPENAI_BASE_URL": server.base_url}
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, cwd=tmp_path) as child:
            try:
                assert server.arrived.wait(20)
                child.send_signal(signal.SIGINT)
                started = time.monotonic()
                _, stderr = child.communicate(timeout=10)
            finally:
                child.kill()
        assert time.monotonic() - started < 2
        assert stderr.endswith(b"KeyboardInterrupt\n")


@pytest.mark.parametrize("name", LANES)
def test_a_broken_stream_gives_its_connection_back_at_once(name: str) -> None:
    """The garbage collector did it during a later call, and blocked that for ever."""
    broken = [Reply(("half",), fault="error_open")] * 2
    gc.disable()
    try:
        outcome = call(broken, request(WAYS[name].model), PATIENT, ModelServer.wait_abandoned)
    finally:
        gc.enable()
    assert "the provider failed: the model crashed" in outcome.line


# --- allowance and window ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        (ModelSpec(GPT), 16_384),  # its maximum by the price file
        (ModelSpec(GPT, max_tokens=500), 500),
        (ModelSpec(GPT, max_tokens=32_000), 16_384),  # the provider would refuse it
        (ModelSpec("openai:of-our-own"), spending.UNKNOWN_LIMIT),
        (ModelSpec("openai:of-our-own", max_tokens=32_000), 32_000),
        (ModelSpec("openrouter:acme/some-model"), spending.UNKNOWN_LIMIT),
        (ModelSpec(VLLM), spending.UNKNOWN_LIMIT),
        (ModelSpec("ollama:some-model"), spending.UNKNOWN_LIMIT),
        (ModelSpec("anthropic:claude-x"), spending.UNKNOWN_LIMIT),
        (ModelSpec("google:gemini-x"), spending.UNKNOWN_LIMIT),
    ],
)
def test_a_limit_is_always_sent(model: ModelSpec, sent: int) -> None:
    outcome = call([Reply(finish_reason=WAYS[model.name.partition(":")[0]].finished)], request(model))
    (body,) = [each["body"] for each in outcome.requests]
    limits = re.findall(
        r'"(?:max_tokens|max_completion_tokens|max_output_tokens|maxOutputTokens|num_predict)": (\d+)',
        json.dumps(body),
    )
    assert limits == [str(sent)]
    lowered = model.max_tokens is not None and sent < model.max_tokens
    assert outcome.done.notes == (
        (f"max_tokens 32,000 is more than {GPT} can answer: 16,384 was sent",) if lowered else ()
    )


def test_the_default_limit_is_what_the_window_has_left() -> None:
    prompt = "one two three four five " * 14_000
    left = 128_000 - estimate_tokens(prompt)
    assert spending.ANSWER_TOKENS < left < 16_384
    assert call([Reply()], request(prompt=prompt)).requests[0]["body"]["max_tokens"] == left


def test_an_answer_over_its_limit_is_named() -> None:
    done = call([Reply(usage=(10, 60))], request(ModelSpec(GPT, max_tokens=50))).done
    assert done.over_limit == "answered 60 tokens where 50 were allowed"
    assert done.notes == ("the server answered 60 tokens where 50 were allowed",)
    assert call([Reply(usage=(10, 50))], request(ModelSpec(GPT, max_tokens=50))).done.over_limit is None


def test_an_answer_that_the_budget_cut_has_a_note() -> None:
    asked = request(ModelSpec(GPT, max_tokens=9000), prompt="x" * 3000, allowance=Allowance(tokens=6000))
    done = call([Reply(finish_reason="length")], asked).done
    assert done.notes == ("the budget left 5,000 tokens for this answer, 9,000 would have been allowed",)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ((0, 7), Usage(None, 7)),
        ((7, 0), Usage(7, None)),
        ((0, 0), Usage()),
    ],
)
def test_a_count_of_zero_is_a_missing_count(usage: tuple[int, int], read: Usage) -> None:
    done = call([Reply(usage=usage)]).done
    assert done.usage == read
    assert done.notes == ("the provider sent no token counts: whether it read the whole prompt is not known",)
    estimated = call([Reply(usage=usage)], request(allowance=Allowance(tokens=9000))).done.usage
    assert estimated == Usage(5, 5, 10, pytest.approx(5 * 1.5e-07 + 5 * 6e-07), estimated=True)


@pytest.mark.parametrize(
    ("name", "stated", "cost"),
    [
        ("openrouter:acme/some-model", {"cost": 0.0123}, 0.0123),
        ("openrouter:acme/some-model", {"cost": 0}, 0.0),
        ("openrouter:acme/some-model", {"cost": 1}, 1.0),
        ("openrouter:acme/some-model", {"cost": -0.5}, None),
        ("openrouter:acme/some-model", {"cost": True}, None),
        ("openrouter:acme/some-model", {"cost": None}, None),
        ("openrouter:acme/some-model", {}, None),
        ("xai:grok-x", {"cost_in_usd_ticks": 123_000_000}, 0.0123),
        ("xai:grok-x", {"cost": 0.5}, 0.5),
        (VLLM, {"cost": 0.5}, None),
        ("openai:of-our-own", {"cost": 0.5}, None),
    ],
)
def test_a_cost_that_the_provider_states_counts(
    name: str, stated: dict[str, Any], cost: float | None
) -> None:
    counted = {"prompt_tokens": 1000, "completion_tokens": 5, "total_tokens": 1005, **stated}
    events = [
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
        for choices, more in (
            ([{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}], {}),
            ([{"index": 0, "delta": {}, "finish_reason": "stop"}], {}),
            ([], {"usage": counted}),
        )
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    done = call([Reply(body=body, content_type="text/event-stream")], request(name)).done
    assert done.usage == Usage(1000, 5, 1005, cost)


@pytest.mark.parametrize(
    ("allowance", "sent"),
    [
        (Allowance(tokens=6000), 5000),
        (Allowance(tokens=10**9), 16_384),
        (Allowance(cost_usd=0.003), 4750),
        (Allowance(cost_usd=0.003, tokens=5200), 4200),
    ],
)
def test_an_allowance_caps_the_answer(allowance: Allowance, sent: int) -> None:
    outcome = call([Reply()], request(prompt="x" * 3000, allowance=allowance))
    assert outcome.requests[0]["body"]["max_tokens"] == pytest.approx(sent, abs=1)


def test_the_models_own_limit_is_never_raised() -> None:
    spec = ModelSpec(GPT, max_tokens=50)
    outcome = call([Reply()], request(spec, allowance=Allowance(tokens=5000)))
    assert outcome.requests[0]["body"]["max_tokens"] == 50


@pytest.mark.parametrize(
    ("allowance", "figures", "option"),
    [
        (
            Allowance(tokens=5095),
            "about 5,096 tokens (1,000 prompt, 4,096 answer), 5,095 are left",
            "--max-tokens",
        ),
        (Allowance(tokens=3).after(Usage(total_tokens=6)), "0 are left", "--max-tokens"),
        (Allowance(cost_usd=0.001), "about $0.0026", "--max-cost"),
    ],
)
def test_a_call_that_cannot_be_afforded_is_not_made(allowance: Allowance, figures: str, option: str) -> None:
    outcome = call([Reply()], request(prompt="x" * 3000, allowance=allowance))
    assert isinstance(outcome.error, BudgetError)
    assert figures in outcome.line
    assert option in outcome.error.fix
    assert outcome.requests == []


def test_a_cost_limit_is_refused_if_the_price_is_unknown() -> None:
    outcome = call([Reply()], request("openai:of-our-own", allowance=Allowance(cost_usd=5.0)))
    assert isinstance(outcome.error, BudgetError)
    assert "openai:of-our-own: its price is not known" in outcome.line
    assert "--max-tokens" in outcome.error.fix
    assert outcome.requests == []


def test_a_stated_cost_replaces_a_missing_price() -> None:
    name = "openrouter:acme/some-model"
    outcome = call([Reply()], request(name, allowance=Allowance(cost_usd=0.01)))
    assert outcome.requests[0]["body"]["max_tokens"] == spending.UNKNOWN_LIMIT
    nothing_left = call([Reply()], request(name, allowance=Allowance(cost_usd=0.0)))
    assert nothing_left.line == f"step 'review': {name}: nothing is left to spend"
    assert nothing_left.requests == []


def test_a_failed_attempt_is_charged_before_the_next() -> None:
    script = [Reply(("x" * 3000,), fault="cut"), "ok"]
    outcome = call(script, request(prompt="x" * 3000, allowance=Allowance(tokens=6000)))
    assert isinstance(outcome.error, BudgetError)
    assert "4,000 are left" in outcome.line
    assert len(outcome.requests) == 1


def test_a_prompt_longer_than_the_window_is_refused() -> None:
    prompt = "one two three four five " * 26_000
    outcome = call([Reply()], request(prompt=prompt))
    assert isinstance(outcome.error, ModelError)
    assert "the prompt of step 'review' is too long for the model's window: 130," in outcome.line
    assert "the window holds 128,000; 2," in outcome.line
    assert "context_chars" in outcome.error.fix
    assert outcome.requests == []


def test_a_prompt_that_fits_by_exact_count_is_sent() -> None:
    prompt = "one two three four five " * 17_000
    assert estimate_tokens(prompt) > 128_000
    assert call([Reply()], request(prompt=prompt)).done.content == "Hello, world."
