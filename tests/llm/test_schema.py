"""An answer by a schema: how each protocol asks for it, and what happens where a server refuses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from aethr.review.structured import SCHEMA
from tests.llm.test_model import GPT, WAYS, call, litellm_is_loaded, request, transport
from tests.model_server import Reply, error

__all__ = ("litellm_is_loaded", "transport")  # fixtures

JSON = json.dumps({"findings": [], "verdict": "pass"})
OLLAMA = "ollama:some-model"


def values(body: object) -> Iterator[object]:
    yield body
    below = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    for each in below:
        yield from values(each)


def refusal(status: int, said: str | dict[str, Any]) -> Reply:
    return Reply(status=status, body=json.dumps({"error": said}))


@pytest.mark.parametrize("name", WAYS)
def test_the_request_has_the_schema_or_the_result_says_that_it_has_not(name: str) -> None:
    way = WAYS[name]
    outcome = call([Reply((JSON,), way.finished)], request(way.model, schema=SCHEMA))
    [sent] = outcome.requests
    noted = outcome.done.notes == (f"{way.model} does not take schema: it was not sent",)
    assert (SCHEMA in values(sent["body"])) != noted
    assert outcome.done.content == JSON
    assert not (noted and name != "google"), "LiteLLM knows the schema of known Gemini models only"


def test_each_protocol_has_its_own_form() -> None:
    [chat] = call([Reply((JSON,))], request(schema=SCHEMA)).requests
    form = {"name": "review", "strict": True, "schema": SCHEMA}
    assert chat["body"]["response_format"] == {"type": "json_schema", "json_schema": form}
    [ollama] = call([Reply((JSON,))], request(OLLAMA, schema=SCHEMA)).requests
    assert ollama["body"]["format"] == SCHEMA
    [claude] = call([Reply((JSON,), "end_turn")], request("anthropic:claude-x", schema=SCHEMA)).requests
    assert claude["body"]["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert "tools" not in claude["body"]


@pytest.mark.parametrize("name", WAYS)
def test_without_a_schema_nothing_of_it_is_sent(name: str) -> None:
    way = WAYS[name]
    [sent] = call([Reply(("Hello.",), way.finished)], request(way.model)).requests
    assert {"response_format", "format", "output_config", "output_format"}.isdisjoint(sent["body"])


REFUSALS = {
    "OpenAI": refusal(
        400,
        {
            "message": "Invalid parameter: 'response_format' of type 'json_schema' is not supported.",
            "param": None,
        },
    ),
    "OpenAI, by name": refusal(
        400, {"message": "Unsupported value.", "param": "response_format.type", "code": "unsupported_value"}
    ),
    "DeepSeek": refusal(400, {"message": "This response_format type is unavailable now", "param": None}),
    "Groq": refusal(400, {"message": "This model does not support response format `json_schema`."}),
    "OpenRouter": refusal(
        404, {"message": "No endpoints found that support structured outputs", "code": 404}
    ),
    "Anthropic": refusal(
        400, {"type": "invalid_request_error", "message": "output_config.format: Extra inputs"}
    ),
    "Anthropic, too large": refusal(400, {"message": "The compiled grammar is too large"}),
    "Gemini": refusal(400, {"message": 'Unknown name "responseJsonSchema"', "status": "INVALID_ARGUMENT"}),
    "Responses": refusal(400, {"message": "Unsupported parameter.", "param": "text.format"}),
    "vLLM": refusal(400, {"message": "[{'loc': ('body', 'response_format'), 'msg': 'extra'}]", "code": 400}),
}
OF_OLLAMA = {
    "old": refusal(
        400, "json: cannot unmarshal object into Go struct field ChatRequest.format of type string"
    ),
    "format": refusal(400, 'invalid format: "{}"; expected "json" or a valid JSON Schema object'),
    "grammar": refusal(500, "invalid JSON schema in format"),
}


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        *(pytest.param(GPT, reply, id=name) for name, reply in REFUSALS.items()),
        *(pytest.param(OLLAMA, reply, id=f"Ollama, {name}") for name, reply in OF_OLLAMA.items()),
    ],
)
def test_a_model_that_refuses_the_schema_is_asked_once_without_it(model: str, refused: Reply) -> None:
    outcome = call([refused, "Review status: pass"], request(model, schema=SCHEMA))
    first, second = outcome.requests
    assert SCHEMA in values(first["body"])
    assert SCHEMA not in values(second["body"])
    assert {"response_format", "format"}.isdisjoint(second["body"])
    assert first["body"]["messages"] == second["body"]["messages"]
    said = f"{model} does not take schema: asked again without it"
    assert outcome.notices == [said]
    assert outcome.done.notes == (said,)
    assert outcome.done.content == "Review status: pass"
    assert outcome.sleeps == []


def test_a_refused_schema_takes_no_attempt_away() -> None:
    busy = error(503, "overloaded", Retry_After="1")
    outcome = call([REFUSALS["Groq"], busy, busy, "Fine."], request(schema=SCHEMA))
    assert outcome.done.content == "Fine."
    assert [SCHEMA in values(each["body"]) for each in outcome.requests] == [True, False, False, False]


def test_the_schema_is_left_out_only_once() -> None:
    outcome = call([REFUSALS["Groq"]] * 3, request(schema=SCHEMA))
    assert len(outcome.requests) == 2
    assert "does not support response format" in outcome.line


@pytest.mark.parametrize(
    "reply",
    [
        error(401, "the schema of this key is unknown"),
        error(429, "insufficient_quota: no schema"),
        error(400, "this model's maximum context length is 10 tokens; the schema has 12"),
        error(400, "no such model"),
    ],
)
def test_no_other_error_leaves_the_schema_out(reply: Reply) -> None:
    outcome = call([reply], request(schema=SCHEMA))
    assert len(outcome.requests) == 1
    assert outcome.error is not None


def test_a_refusal_without_a_schema_is_an_error() -> None:
    outcome = call([REFUSALS["Groq"]], request())
    assert len(outcome.requests) == 1
    assert "does not support response format" in outcome.line
