"""The table of providers: what its rows say, and that nothing else says it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aethr
from aethr.agents.program import access
from aethr.base.errors import MissingKeyError
from aethr.base.providers import LOGINS, PROVIDERS, Provider, provider_of, split
from aethr.base.records import ModelSpec
from aethr.llm.protocols import PROTOCOLS
from aethr.llm.routes import endpoint_of


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.name)
def test_a_row_has_what_its_readers_need(provider: Provider) -> None:
    assert provider_of(f"{provider.name}:m") is provider
    assert all(split(f"{alias.upper()}:m") == (provider.name, "m") for alias in provider.aliases)
    assert provider.keys
    assert provider.base_variables
    assert set(provider.protocols) <= set(PROTOCOLS)
    assert (LOGINS.get(provider.name) == provider.keys[0]) is provider.needs_key


@pytest.mark.parametrize(
    "model", ["openai:m", "anthropic:m", "google:m", "ollama:m", "deepseek:m", "some-new.one:m"]
)
def test_models_and_agents_read_the_same_variables(model: str) -> None:
    provider = provider_of(model)
    environ = {name: f"key-of-{name}" for name in provider.keys}
    environ |= {name: f"http://127.0.0.1/{name}" for name in provider.base_variables}
    while any(name in environ for name in provider.base_variables):
        seen = access(ModelSpec(model), environ)
        assert endpoint_of(ModelSpec(model), environ).base == seen.base == environ[seen.base_variable]
        assert endpoint_of(ModelSpec(model), environ).key == (seen.key if provider.listed else None)
        del environ[seen.base_variable]


def test_an_unknown_provider_has_litellms_variables() -> None:
    row = provider_of("some-new.one:m")
    assert row.keys == ("SOME_NEW_ONE_API_KEY",)
    assert row.base_variables == ("SOME_NEW_ONE_API_BASE", "SOME_NEW_ONE_BASE_URL")
    assert not row.needs_key


@pytest.mark.parametrize(
    ("base", "own"),
    [
        (None, True), ("https://api.openai.com/v1", True), ("https://eu.api.openai.com/v1", True),
        ("https://api.openai.com.example/v1", False), ("https://notapi.openai.com/v1", False),
        ("http://127.0.0.1:8000/v1", False),
    ],
)  # fmt: skip
def test_a_provider_owns_its_host_and_subdomains(base: str | None, own: bool) -> None:
    assert provider_of("openai:m").is_at(base) is own


def test_only_openai_needs_no_key_at_another_address() -> None:
    elsewhere = {"OPENAI_BASE_URL": "http://127.0.0.1/v1", "XAI_API_BASE": "http://127.0.0.1/v1"}
    assert endpoint_of(ModelSpec("openai:m"), elsewhere).key == "none"
    with pytest.raises(MissingKeyError):
        endpoint_of(ModelSpec("xai:m"), elsewhere)


def compared_names(tree: ast.AST) -> Iterator[str]:
    """The provider names that code compares something with, or looks something up by."""
    known = {*PROVIDERS, *(alias for row in PROVIDERS.values() for alias in row.aliases)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and not ast.unparse(node.comparators[0]).endswith(".protocols"):
            values: list[ast.expr | None] = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict) and not {"chat"} & {getattr(key, "value", "") for key in node.keys}:
            values = [*node.keys]
        else:
            continue
        yield from (each.value for each in values if isinstance(each, ast.Constant) and each.value in known)


def test_only_the_table_depends_on_a_providers_name() -> None:
    """But for agents, whose rows name the providers that they serve."""
    root = Path(aethr.__file__).parent
    found = {
        str(path.relative_to(root)): names
        for path in sorted(root.rglob("*.py"))
        if path.name != "providers.py" and "agents" not in path.parts
        and (names := list(compared_names(ast.parse(path.read_text(encoding="utf-8")))))
    }  # fmt: skip
    assert found == {}
