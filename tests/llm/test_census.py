"""Every model in the price file of the LiteLLM that is installed: it is called, or it is known why not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from aethr.base.errors import AethrError
from aethr.base.providers import provider_of
from aethr.base.records import Completion
from aethr.llm import Deadlines, transport_litellm
from aethr.llm.model import ModelBackend
from tests.llm.test_clouds import AWS, AZURE, service_account
from tests.llm.test_model import KEY, backend, request
from tests.model_server import ModelServer, Reply
from tests.support import nightly

__all__ = ["service_account"]

pytestmark = [
    pytest.mark.slow,
    nightly("minutes of calls"),
    pytest.mark.filterwarnings("ignore"),  # of Pydantic, about LiteLLM's own objects
]

ANSWERED = (
    *("openai", "anthropic", "gemini", "xai", "openrouter", "azure"),
    *("mistral", "deepseek", "groq", "ollama"),
)
"""Providers whose models must all answer. Of any other it is enough that the request arrives."""

NOT_IN_THE_FILE = ("openrouter:openai/gpt-5.4-mini", "openrouter:anthropic/claude-opus-5-5")

VARIABLES: Mapping[str, Mapping[str, str]] = {
    "azure": AZURE,
    "bedrock": {**AWS, "ANTHROPIC_AWS_WORKSPACE_ID": "w"},
    "lambda_ai": {"LAMBDA_API_KEY": KEY},
    "meta_llama": {"LLAMA_API_KEY": KEY},
    "sagemaker": AWS,
    "scaleway": {"SCW_SECRET_KEY": KEY},
    "scx-ai": {"SCX_API_KEY": KEY},
    "snowflake": {"SNOWFLAKE_JWT": KEY},
    "tensormesh": {"TENSORMESH_INFERENCE_API_KEY": KEY},
    "watsonx": {"WATSONX_TOKEN": KEY, "WATSONX_PROJECT_ID": "p"},
}
"""Where a provider's credentials are not in ``NAME_API_KEY`` alone."""

NOT_CALLED: Mapping[str, str] = {
    "azure:mistral-large-latest": "LiteLLM asks for OpenAI's key",
    "bedrock:ap-southeast-3/": "a row with the prices of a region, not a name",
    "chatgpt:": "logs in with a browser",
    "fal_ai:": "does not stream",
    "gigachat:": "gets its token from an address of its own",
    "github_copilot:": "logs in with a browser",
    "inception:": "LiteLLM sends the key only to the provider's own address",
    "microsoft_365_copilot:": "exchanges a token of its own cloud",
    "nlp_cloud:": "LiteLLM appends the model to the host",
    "oci:": "signs with a key file",
    "replicate:": "LiteLLM ignores the address",
    "sagemaker:": "LiteLLM ignores the address",
    "scaledown:(classify|decisions|extract)": "takes a task, not a prompt",
}
"""Patterns of models that are not called here, each with its reason."""


def names() -> Iterator[str]:
    """``provider:model`` for each row of a chat or Responses model."""
    for key, row in transport_litellm.load().model_cost.items():
        if row.get("mode") in ("chat", "responses"):
            provider = re.sub(r"^vertex_ai.*|_converse$|_chat(?=$)", _shorten, row["litellm_provider"])
            yield f"{provider}:{key.removeprefix(provider + '/')}"
    yield from NOT_IN_THE_FILE


def _shorten(found: re.Match[str]) -> str:
    return "vertex_ai" if found[0].startswith("vertex_ai") else ""


def prompt(name: str) -> str:
    return f"Look at this, {name}: " + "a line\n" * 20


def attempt(model: ModelBackend, name: str) -> str:
    """What came of preflight and call: ``answered``, or the error."""

    def complete() -> Iterator[object]:
        ended.append((yield from model.complete(request(name, prompt(name)))))

    ended: list[Completion] = []
    try:
        model.preflight([request(name)])
    except AethrError as error:
        return f"preflight: {error}"
    try:
        list(complete())
    except AethrError as error:
        return str(error)
    done = ended[0]
    return "answered" if (done.content, done.truncated) == ("Hello, world.", False) else str(done)


def test_every_model_is_called(service_account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_provider: dict[str, list[str]] = {}
    for name in names():
        by_provider.setdefault(name.partition(":")[0], []).append(name)
    assert set(ANSWERED) <= set(by_provider)
    outcomes: dict[str, str] = {}
    monkeypatch.setenv("VERTEXAI_CREDENTIALS", service_account)
    with ModelServer(lambda _: Reply()) as server, ThreadPoolExecutor(4) as threads:
        for name, models in by_provider.items():
            row = provider_of(models[0])
            environ = {row.keys[0]: KEY, row.base_variables[0]: server.origin, **VARIABLES.get(name, {})}
            with monkeypatch.context() as patch:
                for variable, value in environ.items():  # LiteLLM reads some itself
                    patch.setenv(variable, value)
                model = backend(environ, limits=Deadlines(whole_s=5))
                outcomes.update(zip(models, threads.map(partial(attempt, model), models), strict=True))
    arrived = json.dumps([sent["body"] for sent in server.requests])
    failed = {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome != "answered"
        and (
            name.partition(":")[0] in ANSWERED
            or not (outcome.startswith("preflight: ") or f", {name}: " in arrived)
        )
    }
    unexpected = [
        f"{name}: {outcome}"
        for name, outcome in failed.items()
        if not any(re.match(each, name) for each in NOT_CALLED)
    ]
    assert not unexpected, "\n".join(unexpected)
    answering = [each for each in NOT_CALLED if not any(re.match(each, name) for name in failed)]
    assert not answering, answering
