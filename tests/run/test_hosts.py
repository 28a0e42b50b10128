"""``hosts`` in a workflow file: nothing else is called, whatever leads there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aethr.base.errors import ModelError
from aethr.base.records import ModelSpec, Request
from aethr.llm.model import ModelBackend
from aethr.llm.routes import route
from tests.fake_agent import DIALECTS, install
from tests.live import KEY, PASS, TASK, Aethr, aethr, project, serving, temp, transport
from tests.model_server import ModelServer, Reply, text
from tests.support import Repo

__all__ = ["aethr", "project", "temp", "transport"]

FILE = """\
workflow: one
roles: {{reviewer: "Review."}}
models: {{reviewer: {model}}}
hosts: [{hosts}]
steps:
  - {{id: review, role: reviewer, context: [git_diff]}}
"""
MODEL = "openai:gpt-5.4-mini"


def write(project: Repo, hosts: str, model: str = MODEL) -> None:
    project.write(".aethr.yaml", FILE.format(hosts=hosts, model=model))


@pytest.mark.parametrize("hosts", ["localhost", "127.0.0.1", '"[::1]", 127.0.0.1:{port}', "localhost:{port}"])
def test_a_named_host_is_called(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, transport: str, hosts: str
) -> None:
    with serving(monkeypatch, text(PASS)) as server:
        write(project, hosts.format(port=server.base_url.split(":")[2].partition("/")[0]))
        done = aethr("run", "--fail-on", "high", TASK)
    assert (done.code, len(server.bodies)) == (0, 1), done.err


@pytest.mark.parametrize("hosts", ["api.openai.com", "127.0.0.1:1", '"*.example.com"', '"[::1]"'])
@pytest.mark.parametrize("command", [["run", TASK], ["run", "--fail-on", "high", TASK], ["hook"]])
def test_any_other_host_is_refused_before_the_first_call(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, hosts: str, command: list[str]
) -> None:
    write(project, hosts)
    project.git("add", "-A")
    with serving(monkeypatch) as server:
        done = aethr(*command)
    assert (done.code, server.requests) == (2, [])
    host = server.origin.removeprefix("http://")
    said = f".aethr.yaml:3:20: {MODEL} calls {host} (OPENAI_BASE_URL), which `hosts` does not name"
    assert said in done.out + done.err


@pytest.mark.parametrize(
    "base",
    [
        "https://api.openai.com.evil.example/v1",
        "https://evil-api.openai.com.example",
        "https://api.openai.com@evil.example/v1",
        "https://evil.example/https://api.openai.com",
        "https://api.оpenai.com/v1",
    ],
)
def test_no_address_only_looks_like_a_named_host(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    write(project, "api.openai.com")
    with serving(monkeypatch) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", base)
        done = aethr("run", TASK)
    assert (done.code, server.requests) == (2, [])
    assert "(OPENAI_BASE_URL), which `hosts` does not name" in done.err


@pytest.mark.parametrize(
    ("model", "place", "said"),
    [
        ("xai:grok-4.7", "3:20", "xai:grok-4.7 calls api.x.ai, which `hosts` does not name"),
        (
            '{model: "xai:grok-4.7", fallback: ["openai:gpt-6-sol"]}',
            "3:55",
            "openai:gpt-6-sol calls api.openai.com, which `hosts` does not name",
        ),
        (
            '{model: "vllm:x", endpoint: SECOND_BASE_URL}',
            "3:48",
            "vllm:x calls models.example:8000 (SECOND_BASE_URL), which `hosts` does not name",
        ),
        (
            '{model: "vllm:x", endpoint: UNSET_BASE_URL}',
            "3:48",
            "vllm:x: no endpoint: UNSET_BASE_URL is not set",
        ),
        ("perplexity:sonar", "3:20", "perplexity:sonar: only LiteLLM knows its address"),
        ("vertex_ai:gemini-x", "3:20", "vertex_ai:gemini-x: LiteLLM asks its cloud for a token"),
        ("bedrock:anthropic.claude", "3:20", "bedrock:anthropic.claude: LiteLLM asks its cloud for a token"),
        ("cohere:command-x", "3:20", "cohere:command-x: only LiteLLM knows its address"),
        ("ollama:qwen3:8b", "3:20", "ollama:qwen3:8b calls localhost:11434, which `hosts` does not name"),
    ],
)
def test_whatever_leads_to_a_host_is_named(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, model: str, place: str, said: str
) -> None:
    write(project, '"*.anthropic.com"', model)
    monkeypatch.setenv("AETHR_LIVE", "1")
    monkeypatch.setenv("SECOND_BASE_URL", "http://models.example:8000/v1")
    done = aethr("run", TASK)
    assert done.code == 2
    assert f".aethr.yaml:{place}: {said}" in done.err
    if "UNSET" not in model:
        assert said in aethr("check").err


def test_check_does_not_need_a_variable(aethr: Aethr, project: Repo) -> None:
    write(project, "models.example", '{model: "vllm:x", endpoint: UNSET_BASE_URL}')
    done = aethr("check")
    assert (done.code, "  calls the address in UNSET_BASE_URL: vllm:x\n" in done.out) == (0, True), done.err


def test_check_lists_the_hosts_with_their_models(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallback = '{model: "openai:gpt-5.4-mini", fallback: ["openai:gpt-6-sol", "xai:grok-4.7", "azure:x"]}'
    project.write(".aethr.yaml", FILE.format(hosts="x", model=fallback).replace("hosts: [x]\n", ""))
    monkeypatch.setenv("XAI_API_BASE", "https://User:pass@Proxy.example:8443/v1")
    done = aethr("check")
    assert done.code == 0, done.err
    assert "  calls api.openai.com: openai:gpt-5.4-mini, openai:gpt-6-sol\n" in done.out
    assert "  calls proxy.example:8443 (XAI_API_BASE): xai:grok-4.7\n" in done.out
    assert "  calls a host that is not known here: only LiteLLM knows its address" in done.out
    assert "pass" not in done.out.replace("passes", "").replace("pass and", "").replace("every pass", "")


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_model_of_the_command_line_is_bound_too(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    write(project, "localhost")
    monkeypatch.setenv("XAI_API_KEY", KEY)
    words = ["run", TASK]
    if how == "option":
        words[1:1] = ["--model", "xai:grok-4.7"]
    else:
        monkeypatch.setenv("AETHR_MODEL", "xai:grok-4.7")
    done = aethr(*words)
    assert done.code == 2
    assert (
        ".aethr.yaml:4:8: xai:grok-4.7 calls api.x.ai, which `hosts` does not name (of --model or" in done.err
    )


def test_without_fallback_its_host_need_not_be_named(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "localhost", '{model: "openai:gpt-5.4-mini", fallback: ["google:gemini-x"]}')
    with serving(monkeypatch, text(PASS)):
        monkeypatch.delenv("GEMINI_API_BASE")
        assert aethr("run", TASK).code == 2
        done = aethr("run", "--no-fallback", TASK)
    assert done.code == 0, done.err


def test_a_mock_calls_nothing_and_is_not_refused(aethr: Aethr, project: Repo) -> None:
    write(project, "nowhere.example")
    assert aethr("run", TASK).code == 0


def test_a_redirect_to_another_host_is_not_followed(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    write(project, "127.0.0.1")
    with ModelServer([text(PASS)]) as other:
        there = Reply(status=307, headers={"Location": f"{other.base_url}/chat/completions"})
        with serving(monkeypatch, always=there) as server:
            done = aethr("run", TASK)
    assert (done.code, other.requests) == (3, [])
    assert server.requests


@pytest.mark.parametrize("carrier", [pytest.param("litellm", marks=pytest.mark.slow), "direct"])
def test_the_call_itself_is_held_to_the_hosts(tmp_path: Path, carrier: str) -> None:
    """Whatever the transport makes of an address: the request is refused where it is sent."""
    with ModelServer([text(PASS)]) as server:
        environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.base_url, "AETHR_TRANSPORT": carrier}
        request = Request(
            "review", "reviewer", "Look.", ModelSpec(MODEL), tmp_path, hosts=("api.openai.com",)
        )
        with pytest.raises(ModelError, match=r"it would go to 127[.]0[.]0[.]1, which `hosts` does not name"):
            list(ModelBackend(environ, route(environ)).complete(request))
        assert server.requests == []


@pytest.mark.slow
def test_a_variable_that_only_litellm_reads_leads_nowhere_else(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "api.mistral.ai", "mistral:mistral-small-latest")
    with ModelServer([text(PASS)]) as server:
        monkeypatch.setenv("AETHR_LIVE", "1")
        monkeypatch.setenv("MISTRAL_API_KEY", KEY)
        monkeypatch.setenv("MISTRAL_AZURE_API_BASE", server.base_url)
        done = aethr("run", TASK)
        assert (done.code, server.requests) == (2, [])
    assert "(MISTRAL_AZURE_API_BASE), which `hosts` does not name" in done.err


def test_a_proxy_that_reads_the_call_is_a_host_too(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "models.example", '{model: "vllm:x", endpoint: SECOND_BASE_URL}')
    with ModelServer([text(PASS)] * 2) as proxy:
        monkeypatch.setenv("AETHR_LIVE", "1")
        monkeypatch.setenv("SECOND_BASE_URL", "http://models.example/v1")
        monkeypatch.setenv("HTTP_PROXY", f"http://me:hunter2@{proxy.origin.removeprefix('http://')}")
        done = aethr("run", TASK)
        assert (done.code, proxy.requests) == (2, [])
        said = f"is read by the proxy {proxy.origin} (HTTP_PROXY), which `hosts` does not name"
        assert said in done.err
        assert "hunter2" not in done.err
        write(project, "models.example, localhost", '{model: "vllm:x", endpoint: SECOND_BASE_URL}')
        assert aethr("run", TASK).code == 0
        assert len(proxy.requests) == 1


AGENT = """\
workflow: edit
roles: {implementer: "Edit."}
models: {implementer: {model: "%s"}}
hosts: [%s]
steps:
  - {id: implement, role: implementer, backend: %s}
"""


@pytest.mark.parametrize("name", DIALECTS)
def test_an_agents_model_is_bound_too(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    dialect = DIALECTS[name]
    started = tmp_path / "started"
    program = install(tmp_path / "bin", dialect, f"touch '{started}'\n{dialect.says(*dialect.done())}")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AETHR_LIVE", "1")
    project.write(".aethr.yaml", AGENT % (dialect.model, "nowhere.example", name))
    done = aethr("run", TASK)
    assert done.code == 2
    assert f".aethr.yaml:3:31: {dialect.model} calls " in done.err
    assert not started.exists()


def test_an_agents_own_login_may_call_elsewhere(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", AGENT % ("openai:gpt-6-sol", "api.openai.com", "codex"))
    done = aethr("check")
    assert (done.code, "openai:gpt-6-sol calls chatgpt.com, which" in done.err) == (2, True)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert aethr("check").code == 0
    project.write(".aethr.yaml", AGENT % ("groq:x", "api.openai.com", "opencode"))
    done = aethr("check")
    assert "groq:x: opencode calls groq where its own settings say, so `hosts` cannot allow it" in done.err


def test_the_hosts_are_kept_when_a_run_is_saved(aethr: Aethr, project: Repo) -> None:
    from aethr.config import workflow_file
    from aethr.workflow import planning

    write(project, 'api.openai.com, "*.example.com:8443"')
    spec = workflow_file.load(project.root / ".aethr.yaml", planning.vocabulary())
    again = workflow_file.parse(workflow_file.text(spec), "again", planning.vocabulary())
    assert again.hosts == ("api.openai.com", "*.example.com:8443")
