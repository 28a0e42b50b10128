"""The address of a model in a variable that the workflow names; its settings in record, map and resume."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from aethr.agents.program import access
from aethr.base.errors import UsageError
from aethr.base.records import ModelSpec
from aethr.llm.routes import describe_endpoints, endpoint_of
from tests.fake_agent import DIALECTS, install
from tests.live import KEY, PASS, TASK, Aethr, aethr, project, resume_words, serving, temp
from tests.model_server import ModelServer, Reply, error, text
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]

TWO_SERVERS = """\
workflow: two-servers
roles: {thinker: "Think.", reviewer: "Review."}
models:
  thinker: {model: "vllm:qwen", endpoint: LARGE_BASE_URL}
  reviewer: {model: "vllm:llama", endpoint: SMALL_API_BASE}
steps:
  - {id: think, role: thinker, context: [git_diff]}
  - {id: review, role: reviewer, context: [git_diff]}
"""
ONE = """\
workflow: one
roles: {reviewer: "Review."}
models: {reviewer: {model: "openai:gpt-5.4-mini", endpoint: OWN_ENDPOINT}}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""


def test_two_servers_of_one_protocol_in_one_workflow(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", TWO_SERVERS)
    with ModelServer([text("a thought")]) as large, ModelServer([text(PASS)]) as small:
        monkeypatch.setenv("AETHR_LIVE", "1")
        monkeypatch.setenv("LARGE_BASE_URL", large.base_url)
        monkeypatch.setenv("SMALL_API_BASE", small.base_url)
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", "http://127.0.0.1:1/v1")
        done = aethr("run", "--fail-on", "high", TASK)
    assert done.code == 0, done.err
    assert [body["model"] for body in large.bodies] == ["qwen"]
    assert [body["model"] for body in small.bodies] == ["llama"]
    notes = [line for line in done.err.splitlines() if "calls go to" in line]
    assert notes == [
        f"note: vllm:llama: calls go to {small.base_url} (SMALL_API_BASE)",
        f"note: vllm:qwen: calls go to {large.base_url} (LARGE_BASE_URL)",
    ]


def test_check_names_the_variable_and_needs_no_value(aethr: Aethr, project: Repo) -> None:
    project.write(".aethr.yaml", TWO_SERVERS)
    done = aethr("check")
    assert done.code == 0, done.err
    assert "calls the address in LARGE_BASE_URL" in done.out
    assert aethr("run", TASK).code == 0, "a mock calls nothing"


@pytest.mark.parametrize("value", [None, ""])
def test_an_endpoint_that_is_not_set_is_refused_before_the_first_call(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    project.write(".aethr.yaml", TWO_SERVERS)
    with serving(monkeypatch, always=text(PASS)) as server:
        monkeypatch.setenv("LARGE_BASE_URL", server.base_url)
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", server.base_url)  # it does not stand in
        if value is not None:
            monkeypatch.setenv("SMALL_API_BASE", value)
        done = aethr("run", TASK)
    assert (done.code, server.requests) == (2, [])
    assert "vllm:llama: no endpoint: SMALL_API_BASE is not set" in done.err
    assert "Set SMALL_API_BASE to the address of the model's server" in done.err


@pytest.mark.parametrize(
    "value", ["hunter2-is-a-secret", "ftp://hunter2-is-a-secret/x", "https://h:hunter2x/"]
)
def test_a_value_that_is_not_an_address_is_refused_and_not_shown(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    project.write(".aethr.yaml", ONE)
    with serving(monkeypatch) as server:
        monkeypatch.setenv("OWN_ENDPOINT", value)
        done = aethr("run", TASK)
    assert (done.code, server.requests) == (2, [])
    assert "openai:gpt-5.4-mini: OWN_ENDPOINT is not an http or https address" in done.err
    assert "hunter2" not in done.out + done.err


def test_a_key_goes_where_the_variable_says_and_no_other_key_does(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", ONE)
    with serving(monkeypatch) as elsewhere, ModelServer([text(PASS)]) as own:
        monkeypatch.setenv("OWN_ENDPOINT", f"{own.base_url}?token=query-secret")
        monkeypatch.setenv("XAI_API_KEY", "xai-another-key-0123456789")
        done = aethr("run", TASK)
    assert (done.code, elsewhere.requests) == (0, [])
    (sent,) = own.requests
    assert sent["headers"]["authorization"] == f"Bearer {KEY}"
    assert "xai-another" not in json.dumps(sent)
    assert f"openai:gpt-5.4-mini: calls go to {own.base_url} (OWN_ENDPOINT)" in done.err
    assert "query-secret" not in done.out + done.err


def test_a_dotenv_sets_only_the_named_variables_and_only_to_this_machine(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", ONE)
    project.write(".gitignore", ".env\n")
    with serving(monkeypatch) as server, ModelServer([text(PASS)]) as own:
        project.write(".env", f"OWN_ENDPOINT={own.base_url}\nOTHER_ENDPOINT={own.base_url}\n")
        done = aethr("run", TASK)
        assert done.code == 0, done.err
        assert len(own.bodies) == 1
        assert ".env: ignored, only providers' keys are read from it: OTHER_ENDPOINT" in done.err
        project.write(".env", "OWN_ENDPOINT=https://elsewhere.example/v1\n")
        refused = aethr("run", TASK)
    assert (refused.code, server.requests) == (2, [])
    assert "an endpoint on another host must come from the environment: OWN_ENDPOINT" in refused.err


def test_the_resume_command_sets_the_variable(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", ONE)
    with serving(monkeypatch), ModelServer([error(400, "no")]) as own:
        monkeypatch.setenv("OWN_ENDPOINT", own.base_url)
        done = aethr("run", TASK)
    assert f"OWN_ENDPOINT={own.base_url} " in done.err


def test_an_answer_of_another_server_is_not_used_again(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.write(".aethr.yaml", ONE)
    project.git("add", "-A")
    words = ["hook", "--checkpoint-dir", str(tmp_path / "kept")]
    with serving(monkeypatch), ModelServer(lambda _: PASS) as one, ModelServer(lambda _: PASS) as other:
        for server in (one, one, other):
            monkeypatch.setenv("OWN_ENDPOINT", server.base_url)
            assert aethr(*words).code == 0
    assert (len(one.bodies), len(other.bodies)) == (1, 1)


def test_an_answer_to_other_settings_is_not_used_again(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.git("add", "app.py")
    words = ["hook", "--checkpoint-dir", str(tmp_path / "kept")]
    asked = []
    with serving(monkeypatch, always=text(PASS)) as server:
        for settings in (
            "seed: 1",
            "seed: 1, timeout_s: 60",
            'seed: 1, fallback: ["xai:grok-4.7"]',
            "seed: 1, reasoning_effort: low",
            "seed: 1, reasoning_effort: low, options: {a: {b: 1}}",
            "seed: 1, reasoning_effort: low, options: {a: {b: 2}}",
        ):
            project.write(".aethr.yaml", ONE.replace("endpoint: OWN_ENDPOINT", settings))
            assert aethr(*words).code == 0
            asked.append(len(server.bodies))
    assert asked == [1, 1, 1, 2, 3, 4]


def test_a_key_in_an_option_is_not_shown(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-another-0123456789abcdef"
    project.write(".aethr.yaml", ONE.replace("endpoint: OWN_ENDPOINT", f"options: {{user: [{secret}]}}"))
    monkeypatch.setenv("ANOTHER_API_KEY", secret)
    with serving(monkeypatch, PASS) as server:
        done, checked = aethr("run", "--json", TASK), aethr("check")
    assert server.bodies[0]["user"] == [secret]
    assert done.record["steps"][0]["options"] == {"user": ["[redacted]"]}
    assert secret not in done.out + done.err + checked.out + checked.err


@pytest.mark.parametrize("name", ["anthropic:claude-x", "google:gemini-x", "groq:some-model", "ollama:m"])
def test_every_provider_and_every_agent_follows_it(name: str) -> None:
    keys = {f"{provider}_API_KEY": "k" for provider in ("ANTHROPIC", "GOOGLE", "GROQ")}
    environ = {**keys, "MY_BASE_URL": "https://user:secret@proxy.example/x?y=secret"}
    spec = ModelSpec(name, endpoint="MY_BASE_URL")
    assert endpoint_of(spec, environ).base == access(spec, environ).base == environ["MY_BASE_URL"]
    assert access(spec, environ).base_variable == "MY_BASE_URL"
    assert describe_endpoints([spec], environ) == (
        f"{name}: calls go to https://proxy.example/x (MY_BASE_URL)",
    )
    for find in (endpoint_of, access):
        with pytest.raises(UsageError, match="MY_BASE_URL is not set"):
            find(spec, keys)


def test_an_agent_that_cannot_be_sent_there_is_refused(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    agent = (
        'workflow: w\nroles: {coder: "Code."}\n'
        'models: {coder: {model: "groq:m", endpoint: MY_BASE_URL, fallback: ["openai:gpt-5.4-mini"],'
        " options: {a: 1}}}\nsteps:\n  - {id: code, role: coder, backend: opencode}\n"
    )
    project.write(".aethr.yaml", agent)
    install(tmp_path / "bin", DIALECTS["opencode"], "exit 9\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AETHR_LIVE", "1")
    monkeypatch.setenv("MY_BASE_URL", "http://127.0.0.1:1/v1")
    done = aethr("run", TASK)
    assert done.code == 2
    assert "step 'code': opencode calls groq where its own settings say" in done.err
    assert "Remove `endpoint: MY_BASE_URL`" in done.err
    told = aethr("check").err
    assert "note: step 'code': opencode does not get options, fallback of its model" in told


# --- effort and options in the record, the map and the checkpoint ------------------------------

SETTINGS = """\
workflow: settings
roles: {thinker: "Think.", reviewer: "Review."}
models:
  thinker:
    {model: "openai:gpt-5.4-mini", reasoning_effort: low, options: {verbosity: low, deep: {a: [1, null]}}}
  reviewer: openai:gpt-5.4-mini
steps:
  - {id: think, role: thinker, context: [git_diff]}
  - {id: review, role: reviewer, context: [git_diff]}
"""


def test_effort_and_options_are_recorded_and_shown(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", SETTINGS)
    with serving(monkeypatch, "a thought", PASS) as server:
        done = aethr("run", "--json", TASK)
    assert (server.bodies[0]["reasoning_effort"], server.bodies[0]["deep"]) == ("low", {"a": [1, None]})
    think, review = done.record["steps"]
    assert (think["reasoning_effort"], think["options"]) == (
        "low",
        {"verbosity": "low", "deep": {"a": [1, None]}},
    )
    assert (review["reasoning_effort"], review["options"]) == (None, {})
    shown = aethr("check").out
    assert "reasoning_effort: low" in shown
    assert 'options: {"verbosity": "low", "deep": {"a": [1, null]}}' in shown


def stopped(aethr: Aethr, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that resume a run whose second step failed."""
    with serving(monkeypatch, "a thought", error(400, "no")):
        done = aethr("run", TASK)
    assert done.code == 3
    return resume_words(done.err)


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        (("reasoning_effort: low", "reasoning_effort: high"), "reasoning_effort"),
        (("reasoning_effort: low, ", ""), "reasoning_effort"),
        (("[1, null]", "[1, 2]"), "options"),
        (("reasoning_effort: low, options: {verbosity: low, deep: {a: [1, null]}}", "seed: 1"),
         "reasoning_effort and options"),
    ],
)  # fmt: skip
def test_a_resume_with_other_options_is_refused(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, now: tuple[str, str], changed: str
) -> None:
    project.write(".aethr.yaml", SETTINGS)
    words = stopped(aethr, monkeypatch)
    project.write(".aethr.yaml", SETTINGS.replace(*now))
    with serving(monkeypatch) as server:
        done = aethr(*words)
    assert (done.code, server.requests) == (2, [])
    assert f"step 'think' is finished in the checkpoint, and its {changed} changed since then" in done.err


@pytest.mark.parametrize("how", ["as it was", "another model", "another model in the file"])
def test_a_resume_may_name_another_model(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    project.write(".aethr.yaml", SETTINGS)
    words = stopped(aethr, monkeypatch)
    if how == "another model in the file":
        project.write(
            ".aethr.yaml", SETTINGS.replace('{model: "openai:gpt-5.4-mini", ', '{model: "xai:grok-4.7", ')
        )
    with serving(monkeypatch, PASS) as server:
        done = aethr(*words, *(["--model", "xai:grok-4.7"] if how == "another model" else []))
    assert (done.code, len(server.bodies)) == (0, 1), done.err


def test_doubts_about_the_settings_are_told_before_the_first_call(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = ONE.replace("endpoint: OWN_ENDPOINT", "reasoning_effort: minimal, max_tokens: 4000")
    project.write(".aethr.yaml", low)
    notes = [
        "note: openai:gpt-5.4-mini takes reasoning_effort none, low, medium, high or xhigh, not minimal "
        "(by LiteLLM's price file)",
        "note: openai:gpt-5.4-mini: max_tokens 4,000 may all go to thinking; set max_tokens to 25,000 or "
        "more, or lower reasoning_effort",
    ]
    checked = aethr("check")
    assert (checked.code, [line for line in notes if line not in checked.err]) == (0, [])
    with serving(monkeypatch, PASS):
        done = aethr("run", TASK)
    assert (done.code, [line for line in notes if line not in done.err]) == (0, [])
    monkeypatch.setenv("AETHR_LIVE", "0")
    assert [line for line in notes if line in aethr("run", TASK).err] == [], "a mock calls nothing"


def test_a_price_that_an_option_changes_is_not_known(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", ONE.replace("endpoint: OWN_ENDPOINT", "options: {service_tier: priority}"))
    with serving(monkeypatch, PASS) as server:
        refused = aethr("run", "--max-cost", "9", TASK)
        assert (refused.code, server.bodies) == (5, [])
        assert "openai:gpt-5.4-mini: its price is not known with the option service_tier" in refused.err
        done = aethr("run", "--json", TASK)
    assert done.record["totals"]["cost_usd"] is None
    assert [need["cost_usd"] for need in done.record["estimate"]["most"]] == [None]


def test_model_replaces_options_of_another_provider(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint of one provider's model is never that of another one's."""
    project.write(
        ".aethr.yaml", SETTINGS.replace("reasoning_effort", "endpoint: NO_BASE_URL, reasoning_effort")
    )
    with serving(monkeypatch, "a thought", PASS) as server:
        assert aethr("run", "--model", "xai:grok-4.7", TASK).code == 0
    first: dict[str, Any] = server.bodies[0]
    assert (first["model"], first["reasoning_effort"], "verbosity" in first) == ("grok-4.7", "low", False)
    with serving(monkeypatch, always=Reply()) as server:
        assert aethr("run", "--model", "openai:gpt-5.4", TASK).code == 2
    assert server.requests == []
