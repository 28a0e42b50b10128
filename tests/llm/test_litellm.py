"""LiteLLM itself, and the test server as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aethr.base.errors import ModelError
from aethr.base.records import ModelSpec
from aethr.llm import Call, Endpoint, transport_litellm
from aethr.llm.exchange import Exchange
from aethr.llm.transport_litellm import LiteLLMStream
from tests.llm.test_model import GPT, KEY, PATIENT, backend, request
from tests.model_server import ModelServer, Reply


@pytest.fixture(scope="module", autouse=True)
def litellm_is_loaded() -> None:
    """Its import must not count against a deadline."""
    transport_litellm.load()


@pytest.mark.slow
def test_loading_litellm_restores_environment_and_is_offline(tmp_path: Path) -> None:
    code = """
import os, sys, threading
from aethr.llm import transport_litellm
before = dict(os.environ)
thread = threading.Thread(target=transport_litellm.load)
thread.start()
litellm = transport_litellm.load()
thread.join()
assert dict(os.environ) == before, set(os.environ) ^ set(before)
assert transport_litellm.load() is litellm
from aethr.llm import Call, Deadlines, Endpoint
from aethr.base.records import ModelSpec
call = Call("hi", ModelSpec("anthropic:claude-x"), Endpoint("k", sys.argv[1]), Deadlines(), 10)
answer = transport_litellm.LiteLLM().open(call, lambda: None)
assert "".join(chunk.text for chunk in answer.chunks()) == "Hello, world."
"""
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-a-dot-env\n")
    with ModelServer([Reply(finish_reason="end_turn")]) as server:
        environ = {
            **os.environ,
            "LITELLM_MODEL_COST_MAP_URL": server.origin,
            "LITELLM_ANTHROPIC_BETA_HEADERS_URL": server.origin,
            "LITELLM_LOG": "nonsense",
        }
        command = [sys.executable, "-c", code, server.origin]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert [request["path"] for request in server.requests] == ["/v1/messages"]


def test_a_provider_without_credentials_is_not_retried() -> None:
    sleeps: list[float] = []
    with pytest.raises(ModelError, match="azure/gpt-4o: the key was refused: Missing credentials"):
        list(backend({}, sleeps).complete(request("azure/gpt-4o")))
    assert sleeps == []


# --- the server as a process -------------------------------------------------------------------


def test_the_test_server_runs_as_a_process_from_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('["first", {"chunks": ["a", "b"], "usage": [3, 4]}]')
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "tests.model_server", "--script", str(script), "--log", str(log)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, text=True
    ) as child:
        assert child.stdout is not None
        model = backend({"OPENAI_BASE_URL": child.stdout.readline().strip()})
        calls = [list(model.complete(request())) for _ in range(2)]
        shown = [event.text for _sent, *texts in calls for event in texts]
        child.communicate("")
    assert shown == ["first", "a", "b"]
    assert len(log.read_text().splitlines()) == 2


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of LiteLLM's own objects
@pytest.mark.parametrize(
    ("name", "path", "store"),
    [
        ("openai:gpt-5-codex", "/responses", False),
        ("xai:grok-4.20-multi-agent", "/responses", None),  # it has no such setting
        ("perplexity:openai/gpt-5", "/v1/responses", None),
        ("azure:gpt-5-codex", "/openai/v1/responses?api-version=preview", False),
    ],
)
def test_a_model_that_only_responses_serves_is_called(name: str, path: str, store: bool | None) -> None:
    with ModelServer([Reply()]) as server:
        endpoint = Endpoint(KEY, server.origin)
        one = Call("hi", ModelSpec(name), endpoint, PATIENT, 100)
        answer = list(transport_litellm.LiteLLM().open(one, lambda: None).chunks())
    assert "".join(chunk.text for chunk in answer) == "Hello, world."
    assert [chunk.finish_reason for chunk in answer if chunk.finish_reason] == ["completed"]
    assert [sent["path"] for sent in server.requests] == [path]
    body = server.requests[0]["body"]
    assert (body["max_output_tokens"], body.get("store")) == (100, store)


def test_a_prompt_goes_to_the_endpoint_or_nowhere() -> None:
    """LiteLLM has the address of this provider in its code, and ignores the one that it is given."""
    with ModelServer([Reply()]) as server:
        environ = {"REPLICATE_API_KEY": KEY, "REPLICATE_API_BASE": server.origin}
        with pytest.raises(ModelError) as caught:
            list(backend(environ).complete(request("replicate:openai/gpt-5", "Look at this. " * 50)))
        assert server.requests == []
    assert str(caught.value) == (
        "replicate:openai/gpt-5: the request was refused: "
        "LiteLLM would send it to api.replicate.com, not to 127.0.0.1"
    )


def test_google_api_key_wins_over_gemini_api_key() -> None:
    keys = {"GEMINI_API_KEY": "gemini-key", "GOOGLE_API_KEY": "google-key"}
    with ModelServer([Reply(finish_reason="STOP")]) as server:
        environ = {**keys, "GEMINI_API_BASE": server.origin}
        list(backend(environ).complete(request("gemini:gemini-x")))
        assert server.requests[0]["headers"]["x-goog-api-key"] == "google-key"


@pytest.mark.parametrize(
    ("lines", "own", "reason"),
    [
        (['{"output": "in a protocol of its own"}'], "stop", "stop"),
        (['{"output": "in a protocol of its own"}'], None, None),
        (['data: {"choices": [{"finish_reason": null}]}', "data: [DONE]"], "stop", None),
        (['data: {"choices": [{"delta": {"content": "\\"finish_reason\\": \\"stop\\""}}]}'], "stop", None),
    ],
)
def test_litellms_finish_reason_counts_for_unknown_protocols(
    lines: list[str], own: str | None, reason: str | None
) -> None:
    stream = StreamOfLiteLLM(lines, own)
    one = Call("", ModelSpec(GPT), Endpoint(), PATIENT, None)
    read = LiteLLMStream(one, Exchange(one, lambda: None), stream, stream)
    assert [chunk.finish_reason for chunk in read.chunks()] == [reason]


class StreamOfLiteLLM:
    """The attributes of LiteLLM's stream object that the transport uses."""

    def __init__(self, lines: list[str], own: str | None) -> None:
        self.streaming_response = (line for line in lines)
        self.received_finish_reason = own
        self.intermittent_finish_reason = None

    def __iter__(self) -> Iterator[Any]:
        for _ in self.streaming_response:
            yield from ()


def test_a_request_without_a_stream_is_answered_whole() -> None:
    litellm = transport_litellm.load()
    with ModelServer([Reply(usage=(3, 4))]) as server:
        answer = litellm.completion(
            model="openai/gpt-4o-mini",
            messages=[{"role": "user", "content": "x"}],
            api_base=server.base_url,
            api_key="k",
        )
    assert answer.choices[0].message.content == "Hello, world."
    assert answer.usage.total_tokens == 7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ollama:qwen3:8b", "openai:gpt-5.4-mini", "anthropic:claude-opus-5"])
def test_an_effort_that_is_sent_in_another_form_has_no_note(name: str) -> None:
    with ModelServer([Reply()]) as server:
        spec = ModelSpec(name, reasoning_effort="low", seed=7)
        one = Call("hi", spec, Endpoint(KEY, server.origin), PATIENT, 9000)
        chunks = list(transport_litellm.LiteLLM().open(one, lambda: None).chunks())
    body = server.requests[-1]["body"]
    assert {"think", "reasoning_effort", "output_config"} & body.keys()
    unsent = [f"{name} does not take seed: it was not sent"] if "anthropic" in name else []
    assert [chunk.note for chunk in chunks if chunk.note] == unsent
