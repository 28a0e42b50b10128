"""Refusals before the first call, and a provider's error text on one line."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from aethr.agents.program import access
from aethr.base.errors import MissingKeyError, UsageError
from aethr.base.records import ModelSpec
from aethr.llm.failures import tidy
from aethr.llm.routes import describe_endpoints, endpoint_of
from tests.llm.test_model import GPT, WAYS, backend, request
from tests.model_server import ModelServer, Reply

# --- preflight ---------------------------------------------------------------------------------


def refusal(environ: Mapping[str, str], *models: str | None) -> UsageError:
    asked = [request()._replace(model=ModelSpec(name) if name else None, prompt="") for name in models]
    with pytest.raises(UsageError) as caught:
        backend(environ).preflight(asked)
    assert "\n" not in str(caught.value) + caught.value.fix
    return caught.value


def test_a_missing_key_names_variable_and_login_command() -> None:
    failure = refusal({"OPENAI_API_KEY": ""}, GPT)
    assert isinstance(failure, MissingKeyError)
    assert str(failure) == "openai: no key: OPENAI_API_KEY is not set"
    assert failure.fix == "Run `aethr auth login openai`, or set OPENAI_API_KEY."


@pytest.mark.parametrize("name", ["openai", "anthropic", "google", "openrouter", "xai"])
def test_each_provider_that_needs_a_key_is_checked(name: str) -> None:
    way = WAYS[name]
    assert isinstance(refusal({}, way.model), MissingKeyError)
    backend(way.keys).preflight([request(way.model)])


def test_only_your_own_openai_server_needs_no_key() -> None:
    backend({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}).preflight([request()])
    assert isinstance(refusal({"XAI_API_BASE": "http://127.0.0.1:1"}, "xai:grok-x"), MissingKeyError)
    with ModelServer([Reply()]) as server:
        list(backend({"OPENAI_API_BASE": server.base_url}).complete(request()))
        assert server.requests[0]["headers"]["authorization"] == "Bearer none"


@pytest.mark.parametrize("key", ["sk-1234\n", " sk-1234", "sk-12\u00a034", "sk-ключ"])
def test_a_key_unfit_for_a_header_is_refused_and_not_shown(key: str) -> None:
    failure = refusal({"OPENAI_API_KEY": key}, GPT)
    assert "OPENAI_API_KEY" in str(failure)
    assert key.strip() not in str(failure) + failure.fix


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN", "HOSTED_VLLM_API_KEY"])
@pytest.mark.parametrize("quotes", ['""', "''", "``", "\u201c\u201d", '"\x20', '\x20"'])
def test_a_key_in_quotes_is_reported_and_not_shown(variable: str, quotes: str) -> None:
    models = {"OPENAI": GPT, "ANTHROPIC": "anthropic:claude-x", "HOSTED": "vllm:m"}
    base = {"HOSTED_VLLM_API_BASE": "http://127.0.0.1:1/v1"}
    key = f"{quotes[0]}sk-1234567890{quotes[1]}".strip()
    failure = refusal({variable: key, **base}, models[variable.partition("_")[0]])
    assert str(failure).endswith(f": {variable} has quotes around its value")
    assert failure.fix.startswith(f"Remove the quotes from {variable}")
    assert "sk-1234567890" not in str(failure) + failure.fix


@pytest.mark.parametrize(("first", "second"), [("DEEPSEEK_API_BASE", "DEEPSEEK_BASE_URL")])
def test_models_and_agents_use_the_same_key_variable(first: str, second: str) -> None:
    environ = {"DEEPSEEK_API_KEY": "sk-1", second: "http://h/b", first: "http://h/a"}
    assert (
        endpoint_of(ModelSpec("deepseek:m"), environ).base
        == access(ModelSpec("deepseek:m"), environ).base
        == "http://h/a"
    )
    del environ[first]
    assert (
        endpoint_of(ModelSpec("deepseek:m"), environ).base
        == access(ModelSpec("deepseek:m"), environ).base
        == "http://h/b"
    )
    assert access(ModelSpec("my-own.one:m"), {"MY_OWN_ONE_API_BASE": "x"}).base == "x"


@pytest.mark.parametrize("name", ["lm_studio", "hosted_vllm"])
def test_your_own_server_needs_its_address(name: str) -> None:
    failure = refusal({}, f"{name}:some-model")
    assert f"{WAYS[name].base} is not set" in str(failure)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "file:///etc/passwd", "http://"])
def test_a_malformed_address_is_refused(url: str) -> None:
    assert "OPENAI_BASE_URL is not an http or https address" in str(refusal({"OPENAI_BASE_URL": url}, GPT))


def test_an_unknown_provider_is_refused_with_a_suggestion() -> None:
    failure = refusal({}, "antropic:claude-x")
    assert str(failure) == "'antropic:claude-x': no provider named 'antropic' (did you mean 'anthropic'?)"


def test_any_provider_that_litellm_knows_is_accepted() -> None:
    backend({}).preflight([request("cohere:some-model")])


@pytest.mark.parametrize("name", ["gpt-4o", "openai:http://127.0.0.1:1/x", "oobabooga/http://127.0.0.1:1/x"])
def test_a_malformed_model_name_is_refused(name: str) -> None:
    assert "step 'review'" in str(refusal({}, name))


def test_a_step_without_a_model_is_refused() -> None:
    failure = refusal({}, None)
    assert "role 'reviewer' has no model" in str(failure)
    assert "AETHR_MODEL" in failure.fix


def test_foreign_hosts_are_named_once_and_without_secrets() -> None:
    environ = {
        "OPENAI_BASE_URL": "https://user:secret@proxy.example:8443/v1/?token=secret",
        "OLLAMA_API_BASE": "http://localhost:11434",
        "ANTHROPIC_BASE_URL": "https://api.anthropic.com/",
        "GROQ_API_BASE": "http://127.0.0.1:1",
    }
    names = (GPT, "openai:o3", "ollama:llama3", "anthropic:claude-x", "groq:some-model", "xai:grok-x")
    assert describe_endpoints([ModelSpec(name) for name in names], environ) == (
        "groq: calls go to http://127.0.0.1:1 (GROQ_API_BASE)",
        "openai: calls go to https://proxy.example:8443/v1 (OPENAI_BASE_URL)",
    )


# --- the text of errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\n\n lines\t\x1b[31mred\x07", "two lines [31mred"),
        ('{"error": {"message": "inner", "code": 3}}', "inner"),
        ('prefix b\'{"error": {"message": "the model\\\'s"}}\'', "the model's"),
        ('{"error": "plain"}', "plain"),
        ("{not json}", "{not json}"),
        ("{" * 40_000 + "}", "{" * 299 + "…"),
        ("b'{" * 100_000, "b'{" * 99 + "b'…"),
        ('{"error": {"message": "\\u0061bcdefgh-secret"}}', "[key]"),
        ("key sk-abcdefgh12345678 refused", "key [key] refused"),
        ("mine is abcdefgh-secret, yes", "mine is [key], yes"),
        ("<html><body>no title", "an HTML page"),
        ("x" * 1000, "x" * 299 + "…"),
    ],
)
def test_a_providers_text_is_shown_on_one_line(text: str, shown: str) -> None:
    assert tidy(text, ["abcdefgh-secret", "none"]) == shown
