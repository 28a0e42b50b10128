"""Packages that only some models need: found before the first call, and named as PyPI names them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec

import pytest
from packaging.requirements import Requirement

from aethr.base.errors import ModelError, UsageError
from aethr.base.providers import PACKAGES
from aethr.llm import CallFailed, Endpoint, transport_litellm
from aethr.llm.failures import explain, failure_of
from tests import lock
from tests.llm.test_model import backend, request
from tests.support import Repo, aethr

SECRET = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}
PASSWORD = {"AZURE_CLIENT_ID": "c", "AZURE_USERNAME": "u", "AZURE_PASSWORD": "p"}
KEY = {"AZURE_API_KEY": "sk-test-0123456789"}


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if neither of the packages were here: an import of a module that is None fails."""
    for module in ("google", "google.auth", "vertexai", "azure", "azure.identity"):
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize(
    ("model", "environ", "package", "extra"),
    [
        ("vertex_ai:gemini-2.5-pro", {}, "google-auth", "vertex"),
        ("vertex_ai/claude-opus-5-5", {}, "google-auth", "vertex"),
        ("vertex_ai:xai/grok-4.7", {}, "google-cloud-aiplatform", ""),
        ("azure:gpt-4o", SECRET, "azure-identity", "azure"),
        ("azure:gpt-5-codex", PASSWORD, "azure-identity", "azure"),
        ("azure_ai:gpt-4o", SECRET, "azure-identity", "azure"),
    ],
)
@pytest.mark.usefixtures("not_installed")
def test_a_missing_package_is_named_before_the_first_call(
    model: str, environ: Mapping[str, str], package: str, extra: str
) -> None:
    with pytest.raises(UsageError) as caught:
        backend(environ).preflight([request(model)])
    assert str(caught.value) == f"{model}: the package {package} is not installed"
    what = f'"aethr[{extra}]"' if extra else package
    assert caught.value.fix == f"Run `pip install {what}` in the environment of aethr."


@pytest.mark.parametrize(
    ("model", "environ"),
    [
        ("azure:gpt-4o", {**SECRET, **KEY}),
        ("azure:gpt-4o", {"AZURE_CLIENT_ID": "c"}),
        ("azure:gpt-4o", {}),
        ("bedrock:anthropic.claude-opus-5-5", {}),
        ("gemini:gemini-2.5-pro", {"GEMINI_API_KEY": "sk-test-0123456789"}),
        ("openai:gpt-4o", {"OPENAI_API_KEY": "sk-test-0123456789", **SECRET}),
    ],
)
@pytest.mark.usefixtures("not_installed")
def test_a_package_that_a_call_does_not_need_is_not_asked_for(model: str, environ: Mapping[str, str]) -> None:
    backend(environ).preflight([request(model)])


@pytest.mark.skipif(find_spec("azure") is not None, reason="azure-identity is here")
def test_check_and_run_name_the_missing_package(repo: Repo) -> None:
    repo.write(
        ".aethr.yaml",
        "workflow: w\nroles: {r: Review.}\nmodels: {r: azure:gpt-4o}\nsteps: [{id: s, role: r}]\n",
    )
    said = "azure:gpt-4o: the package azure-identity is not installed"
    checked = aethr("check", cwd=repo.root, env=SECRET)
    assert checked.returncode == 0
    assert f'note: {said}; run `pip install "aethr[azure]"`\n' in checked.stderr
    run = aethr("run", "look", cwd=repo.root, env={**SECRET, "AETHR_LIVE": "1"})
    assert run.returncode == 2
    assert f"aethr: {said}" in run.stderr
    assert 'pip install "aethr[azure]"' in run.stderr


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("google", 'LiteLLM needs google-auth for it; `pip install "aethr[vertex]"` installs it'),
        ("google.auth", 'LiteLLM needs google-auth for it; `pip install "aethr[vertex]"` installs it'),
        ("azure", 'LiteLLM needs azure-identity for it; `pip install "aethr[azure]"` installs it'),
        (
            "vertexai",
            "LiteLLM needs google-cloud-aiplatform for it; `pip install google-cloud-aiplatform` installs it",
        ),
        ("something", "LiteLLM needs the module 'something' for it"),
    ],
)
def test_a_package_that_is_missing_in_a_call_is_named_as_on_pypi(module: str, said: str) -> None:
    error = ImportError("please install the sdk")
    error.__cause__ = ModuleNotFoundError(f"No module named '{module}'", name=module)
    failure = failure_of(error, transport_litellm.load())
    assert (failure.kind, failure.message) == ("install", said)


def test_each_extra_installs_its_package() -> None:
    extras = lock.PYPROJECT["project"]["optional-dependencies"]
    named = {package.extra: package.name for package in PACKAGES if package.extra}
    assert {extra: Requirement(extras[extra][0]).name for extra in named} == named


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no credentials\nTraceback (most recent call last):\n  File x\nValueError: no", "no credentials"),
        (
            "Traceback (most recent call last):\n  File x\n  y()\nValueError: no credentials",
            "ValueError: no credentials",
        ),
    ],
)
def test_a_traceback_never_reaches_the_user(text: str, shown: str) -> None:
    error: ModelError = explain(CallFailed("server", text), "vertex_ai:gemini-2.5-pro", Endpoint())
    assert str(error) == f"vertex_ai:gemini-2.5-pro: the provider failed: {shown}"
