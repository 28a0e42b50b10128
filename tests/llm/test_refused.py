"""Settings that a model refuses by name, and accounts that may not stream, on every lane."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aethr.base.records import ModelSpec, Notice
from aethr.llm import Call, CallFailed, Deadlines, Endpoint, refusals, transport_litellm
from aethr.llm.transport_litellm import LiteLLM
from tests.llm.test_direct import server_sending
from tests.llm.test_model import VLLM, Outcome, backend, call, litellm_is_loaded, request, transport
from tests.model_server import ModelServer, Reply, error

__all__ = ["litellm_is_loaded", "transport"]

OURS = ModelSpec("openai:gpt-4o-mini", 0.5, seed=7, top_p=0.9, max_tokens=99)


def refusal(message: str, param: str | None = None, status: int = 400) -> Reply:
    said = {"message": message, "type": "invalid_request_error", "param": param, "code": "unsupported_value"}
    return Reply(status=status, body=json.dumps({"error": said}))


def ask(*replies: Reply, model: ModelSpec = OURS, **fields: Any) -> Outcome:
    return call([*replies, *[error(418, "one request too many")] * 3], request(model, **fields))


def sent(outcome: Outcome) -> list[set[str]]:
    return [
        set(each["body"]) - {"model", "messages", "stream", "stream_options"} for each in outcome.requests
    ]


ALL = {"temperature", "seed", "top_p", "max_tokens"}


REFUSED = {
    "by value": (
        refusal("'temperature' does not support 0.5 with this model.", "temperature"),
        "temperature",
    ),
    "by parameter": (refusal("Only the default is supported.", "top_p"), "top_p"),
    "in backticks": (refusal("`seed` is not supported by this model."), "seed"),
    "an argument": (refusal("Unrecognized request argument supplied: seed"), "seed"),
    "as a prefix": (refusal("top_p: Extra inputs are not permitted"), "top_p"),
    "camel case": (Reply(status=400, body='{"error": "m does not support parameter topP."}'), "top_p"),
    "by location": (Reply(status=422, body='{"detail": [{"loc": ["body", "seed"], "msg": "no"}]}'), "seed"),
}


@pytest.mark.parametrize(("reply", "setting"), REFUSED.values(), ids=REFUSED)
def test_a_refused_setting_is_left_out_once(reply: Reply, setting: str) -> None:
    outcome = ask(reply, Reply(("Fine.",)))
    assert sent(outcome) == [ALL, ALL - {setting}]
    note = f"openai:gpt-4o-mini does not take {setting}: asked again without it"
    assert (outcome.done.content, outcome.notices) == ("Fine.", [note])
    assert note in outcome.done.notes
    assert outcome.sleeps == []


def test_each_setting_is_left_out_at_most_once() -> None:
    outcome = ask(
        refusal("no", "temperature"), refusal("no", "seed"), refusal("no", "top_p"), refusal("no", "seed")
    )
    assert sent(outcome) == [ALL, ALL - {"temperature"}, ALL - {"temperature", "seed"}, {"max_tokens"}]
    assert "the request was refused (400): no" in outcome.line
    assert len(outcome.notices) == 3


def test_a_refused_setting_is_not_a_failure_of_the_server() -> None:
    outcome = ask(error(500), refusal("no", "seed"), error(500), Reply(("Fine.",)))
    assert (outcome.done.content, len(outcome.sleeps)) == ("Fine.", 2)


def test_a_limit_is_sent_by_its_other_name() -> None:
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    outcome = ask(refusal(message, "max_tokens"), Reply(("Fine.",)))
    assert sent(outcome) == [ALL, ALL - {"max_tokens"} | {"max_completion_tokens"}]
    assert outcome.requests[1]["body"]["max_completion_tokens"] == 99
    assert outcome.notices == [
        "openai:gpt-4o-mini does not take max_tokens: asked again with max_completion_tokens"
    ]
    again = ask(refusal(message, "max_tokens"), refusal("no", "max_completion_tokens"))
    assert (len(again.requests), "the request was refused (400): no" in again.line) == (2, True)


def test_what_was_not_sent_is_not_left_out() -> None:
    outcome = ask(refusal("no", "temperature"), model=ModelSpec(VLLM, seed=7))
    assert (len(outcome.requests), outcome.notices) == (1, [])


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_only_a_refused_request_is_asked_again_without_a_setting(status: int) -> None:
    outcome = ask(*[refusal("no", "temperature", status)] * 3)
    assert all("temperature" in names for names in sent(outcome))


@pytest.mark.parametrize(
    "message",
    [
        "the messages are wrong: 'content' must be a text",
        "The model 'temperature' does not exist: a seed of doubt",
    ],
)
def test_a_name_that_is_not_a_settings_is_an_error(message: str) -> None:
    outcome = ask(refusal(message, "messages"))
    assert (len(outcome.requests), message in outcome.line) == (1, True)


def test_an_option_of_the_user_is_never_left_out() -> None:
    spec = OURS._replace(name=VLLM, options={"service_tier": "flex", "temperature": 0.1})
    for option in spec.options:
        failure = CallFailed("bad_request", "no such tier", 400, parameter=option)
        one = Call("", spec, Endpoint("k"), Deadlines(), 99)
        assert refusals.refused_setting(one, failure) is None
        assert refusals.refused_option(one, failure) == option


def test_a_refused_option_is_named_as_one() -> None:
    outcome = ask(
        refusal("no such tier", "service_tier"), model=OURS._replace(options={"service_tier": "flex"})
    )
    assert outcome.line.endswith(
        "the request was refused (400): no such tier ('service_tier' is one of the model's options)"
    )
    assert len(outcome.requests) == 1


@pytest.mark.parametrize(
    ("model", "message", "key"),
    [
        (
            "openai:gpt-5.4-mini",
            "Unsupported value: 'reasoning_effort' does not support 'low'.",
            "reasoning_effort",
        ),
        ("openrouter:acme/some-model", "Unknown parameter: reasoning.effort", "reasoning"),
        ("ollama:some-model", '"some-model" does not support thinking', "think"),
    ],
)
def test_a_refused_effort_is_left_out(model: str, message: str, key: str, transport: str) -> None:
    if transport == "litellm" and key == "reasoning":
        key = "reasoning_effort"
    outcome = ask(refusal(message), Reply(("Fine.",)), model=ModelSpec(model, reasoning_effort="low"))
    assert [key in each["body"] for each in outcome.requests] == [True, False]
    assert outcome.notices == [f"{model} does not take reasoning_effort: asked again without it"]


def test_an_account_that_may_not_stream_is_asked_once_more_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only LiteLLM makes the request."""
    monkeypatch.setenv("AZURE_API_KEY", "sk-12345678")
    with ModelServer([refusal("must be verified", "stream"), Reply(("Fi", "ne."))]) as server:
        model = backend({"AZURE_API_BASE": server.origin})
        stream, said = model.complete(request("azure:gpt-4o")), list[object]()
        try:
            while True:
                said.append(next(stream))
        except StopIteration as end:
            done = end.value
    assert [each["body"].get("stream", False) for each in server.requests] == [True, False]
    assert (done.content, done.usage.total_tokens) == ("Fine.", 15)
    notice = "azure:gpt-4o: answered 400; retrying once without streaming"
    assert [each.text for each in said if isinstance(each, Notice)] == [notice]


# --- through LiteLLM alone -----------------------------------------------------------------------


def test_litellm_leaves_a_refused_setting_out_of_its_requests() -> None:
    names = ("temperature", "top_p", "seed", "reasoning_effort")
    spec = ModelSpec("cohere_chat:m", 0.5, seed=7, top_p=0.9, reasoning_effort="low")
    one = Call("", spec, Endpoint("k"), Deadlines(), 99)
    assert set(names) <= transport_litellm._arguments(one).keys()
    for name in names:
        failure = CallFailed("bad_request", f"'{name}' is not supported", 400)
        assert refusals.refused_setting(one, failure) == name
        left = transport_litellm._arguments(one._replace(left_out=frozenset({name})))
        assert set(names) - left.keys() == {name}
    limit = transport_litellm._arguments(one._replace(left_out=frozenset({"max_tokens"})))
    assert ("max_tokens" in limit, limit["max_completion_tokens"]) == (False, 99)


@pytest.mark.slow
@pytest.mark.parametrize(("reason", "read"), [("COMPLETE", "complete"), ("MAX_TOKENS", "max_tokens")])
def test_an_answer_without_a_stream_is_read_by_litellm(reason: str, read: str) -> None:
    """Cohere's protocol, which Aethr does not read itself."""
    text, counts = {"type": "text", "text": "Fine."}, {"input_tokens": 9, "output_tokens": 2}
    said = {
        "id": "a",
        "finish_reason": reason,
        "message": {"role": "assistant", "content": [text]},
        "usage": {"billed_units": counts, "tokens": counts},
    }
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    with server_sending(head, json.dumps(said).encode()) as base:
        spec = ModelSpec("cohere_chat:command-a-03-2025")
        one = Call("Hi", spec, Endpoint("k", f"{base}/v2/chat"), Deadlines(), 99, stream=False)
        chunks = list(LiteLLM().open(one, lambda: None).chunks())
    (answer,) = [chunk for chunk in chunks if chunk.text]
    assert (answer.text, (answer.finish_reason or "").lower()) == ("Fine.", read)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 11
