"""Models that answer in the place of another one, through the real command line: when, and who says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aethr.base.errors import AethrError
from aethr.base.records import Completion, ModelSpec
from aethr.llm import ATTEMPTS
from tests.live import KEY, PASS, REVISE, TASK, Aethr, aethr, project, resume_words, serving, temp
from tests.llm.test_model import backend, request
from tests.model_server import ModelServer, Reply, error
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]

FIRST, SECOND = "openai:gpt-5.4-mini", "xai:grok-4.7"
WORKFLOW = f"""\
workflow: w
roles: {{reviewer: "Review."}}
models:
  reviewer: {{model: "{FIRST}", temperature: 1, max_tokens: 30000, fallback: ["{SECOND}"]}}
steps:
  - {{id: review, role: reviewer, context: [git_diff]}}
"""
BUSY = error(429, "slow down", Retry_After="0")


def by_model(**replies: Reply | str) -> Callable[[dict[str, Any]], Reply | str]:
    """A server that answers by the model: the name's first letters stand for it."""

    def answer(body: dict[str, Any]) -> Reply | str:
        return next(reply for name, reply in replies.items() if body["model"].startswith(name))

    return answer


PASSING: dict[str, Reply] = {
    "429": BUSY,
    "503": error(503, "no", Retry_After="0"),
    "529": error(529, "no", Retry_After="0"),
    "502": error(502, "Bad Gateway"),
    "522": error(522, "Connection timed out"),
    "504": error(504, "Gateway Timeout"),
    "500 overloaded": error(500, "The engine is currently overloaded, please try again later"),
    "overloaded in a 200": Reply(body='{"error": {"message": "Overloaded", "type": "overloaded_error"}}'),
    "a long wait": error(429, "come back later", Retry_After="3600"),
    "reset": Reply(fault="reset_before"),
}
FINAL: dict[str, Reply] = {
    "401": error(401, "bad key"),
    "403": error(403, "not yours"),
    "400": error(400, "the engine is overloaded with parameters"),
    "404": error(404, "no such model"),
    "413": error(413, "too large"),
    "quota": error(429, "You exceeded your current quota", "insufficient_quota"),
    "402": error(402, "no credit"),
    "500": error(500, "a bug"),
    "window": error(400, "too long", "context_length_exceeded"),
    "cut after text": Reply(("half an ",), fault="cut"),
    "reset after text": Reply(("half an ",), fault="reset_mid"),
    "overloaded after text": Reply(("half an ",), fault="error_event"),
    "all thought": Reply((), "length"),
    "filter": Reply((), "content_filter"),
    "empty": Reply(()),
    "garbage": Reply(body="<html>", content_type="text/html"),
}


def ask(monkeypatch: pytest.MonkeyPatch, failure: Reply) -> tuple[list[str], Completion | AethrError]:
    """The models that were called, and the answer or the error, where the first model fails like that."""
    monkeypatch.setenv("AETHR_TRANSPORT", "direct")
    with ModelServer(by_model(gpt=failure, grok=PASS)) as server:
        keys = {"OPENAI_API_KEY": KEY, "XAI_API_KEY": KEY}
        bases = {"OPENAI_BASE_URL": server.base_url, "XAI_API_BASE": server.base_url}
        call = backend({**keys, **bases}).complete(request(ModelSpec(FIRST, fallback=(SECOND,))))
        try:
            while True:
                next(call)
        except StopIteration as end:
            result = end.value
        except AethrError as failed:
            result = failed
    return [body["model"] for body in server.bodies], result


@pytest.mark.parametrize("name", PASSING)
def test_a_model_that_cannot_answer_now_is_replaced(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    called, answer = ask(monkeypatch, PASSING[name])
    attempts = {"a long wait": 1, "reset": 2}.get(name, ATTEMPTS)
    assert called == [*["gpt-5.4-mini"] * attempts, "grok-4.7"]
    assert isinstance(answer, Completion)
    assert (answer.model, answer.fallback_for) == (SECOND, FIRST)
    assert answer.notes[0].endswith(f"; {SECOND} answered instead")


@pytest.mark.parametrize("name", FINAL)
def test_a_refusal_or_a_begun_answer_is_final(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    called, failed = ask(monkeypatch, FINAL[name])
    assert set(called) == {"gpt-5.4-mini"}
    assert isinstance(failed, AethrError)
    assert str(failed).startswith(FIRST)


@pytest.mark.parametrize("failure", [BUSY, PASSING["a long wait"]], ids=["429", "a long wait"])
def test_who_answered_is_named_everywhere(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: Reply
) -> None:
    project.write(".aethr.yaml", WORKFLOW)
    reports = [tmp_path / f"r{suffix}" for suffix in (".json", ".md", ".txt")]
    words = [word for report in reports for word in ("--report", str(report))]
    with serving(monkeypatch, always=by_model(gpt=failure, grok=PASS)) as server:
        done = aethr("run", "--fail-on", "high", *words, TASK)
    assert done.code == 0, done.err
    assert [body["model"] for body in server.bodies][-1] == "grok-4.7"
    assert (server.bodies[-1]["temperature"], server.bodies[-1]["max_tokens"]) == (1.0, 30000)
    (step,) = json.loads(reports[0].read_text())["steps"]
    assert (step["model"], step["fallback_for"]) == (SECOND, FIRST)
    assert any(note.endswith(f"; {SECOND} answered instead") for note in step["notes"]), step["notes"]
    assert f"; asking {SECOND} instead" in done.out
    assert done.out.rstrip().endswith(f"answered by {SECOND} (fallback for {FIRST})")
    for page in reports[1:]:
        assert re.sub(r"\\", "", page.read_text()).count(f"{SECOND} (fallback for {FIRST})") >= 1


def test_each_model_has_its_own_attempts_and_time(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one never answers, the second one is refused now and then."""
    late = WORKFLOW.replace("max_tokens: 30000", "max_tokens: 30000, timeout_s: 0.6")
    project.write(".aethr.yaml", late)
    grok = iter([BUSY, BUSY, PASS])
    with serving(
        monkeypatch,
        always=lambda body: Reply(fault="never") if body["model"].startswith("gpt") else next(grok),
    ) as server:
        done = aethr("run", TASK)
    assert done.code == 0, done.err
    assert [body["model"] for body in server.bodies] == ["gpt-5.4-mini", *["grok-4.7"] * ATTEMPTS]
    assert f"{FIRST}: no answer in time; asking {SECOND} instead" in done.out


def test_without_fallback_the_one_model_decides(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", WORKFLOW)
    monkeypatch.delenv("XAI_API_KEY", raising=False)
    with serving(monkeypatch, always=by_model(gpt=BUSY, grok=PASS)) as server:
        monkeypatch.delenv("XAI_API_KEY")
        missing = aethr("run", TASK)
        assert (missing.code, server.bodies) == (2, [])
        assert "xai: no key" in missing.err
        done = aethr("run", "--no-fallback", TASK)
    assert done.code == 3
    assert {body["model"] for body in server.bodies} == {"gpt-5.4-mini"}
    assert "--no-fallback" in resume_words(done.err)
    for words in (["--model", FIRST], ["--model", "openai:gpt-4o"]):
        with serving(monkeypatch, always=BUSY) as server:
            assert aethr("run", *words, TASK).code == 3
        assert len({body["model"] for body in server.bodies}) == 1


def test_when_the_last_one_fails_its_error_is_reported_and_the_resume_begins_again(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", WORKFLOW)
    with serving(monkeypatch, always=by_model(gpt=BUSY, grok=error(401, "bad key"))):
        done = aethr("run", TASK)
    assert done.code == 3
    assert f"{SECOND}: the key was refused" in done.err
    assert f"{FIRST} answered 429; asking {SECOND} instead" in done.out
    with serving(monkeypatch, PASS) as server:
        assert aethr(*resume_words(done.err)).code == 0
    assert [body["model"] for body in server.bodies] == ["gpt-5.4-mini"]


def test_options_and_endpoint_go_to_the_same_provider_only(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (
        f'{{model: "{FIRST}", endpoint: OTHER_BASE_URL, options: {{verbosity: low}}, reasoning_effort: low,'
        f' fallback: ["openai:gpt-5.4", "{SECOND}"]}}'
    )
    project.write(".aethr.yaml", re.sub(r"reviewer: \{model.*", f"reviewer: {both}", WORKFLOW))
    with (
        serving(monkeypatch, PASS) as own,
        serving(monkeypatch, always=BUSY) as other,
        monkeypatch.context() as env,
    ):
        env.setenv("OTHER_BASE_URL", other.base_url)
        env.setenv("XAI_API_BASE", own.base_url)
        done = aethr("run", TASK)
    assert done.code == 0, done.err
    assert [body["model"] for body in other.bodies] == [*["gpt-5.4-mini"] * 3, *["gpt-5.4"] * 3]
    assert {body["verbosity"] for body in other.bodies} == {"low"}
    (last,) = own.bodies
    assert "verbosity" not in last
    assert last["reasoning_effort"] == "low"
    assert f"(fallback for {FIRST})" in done.out


def test_at_most_and_budgets_count_every_model(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", WORKFLOW)
    with serving(monkeypatch, always=by_model(gpt=BUSY, grok=PASS)):
        done = aethr("run", "--json", TASK)
        needs = {need["model"]: need for need in done.record["estimate"]["most"]}
        about = [need["model"] for need in done.record["estimate"]["about"]]
        assert about == [FIRST]
        assert {name: need["calls"] for name, need in needs.items()} == {FIRST: 6, SECOND: 6}
        assert done.record["totals"]["cost_usd"] < sum(need["cost_usd"] for need in needs.values())
        checked = aethr("check").out
        assert f"fallback: {SECOND}" in checked
        assert f"    {SECOND}: 6 calls" in checked
        alone = aethr("check", "--no-fallback").out
        assert SECOND not in alone
        unknown = WORKFLOW.replace(SECOND, "xai:no-such-model").replace("xai:", "vllm:")
        project.write(".aethr.yaml", unknown)
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", "http://127.0.0.1:1/v1")
        refused = aethr("run", "--max-cost", "1", TASK)
    assert refused.code == 5
    assert "vllm:no-such-model: its price is not known" in refused.err


def test_a_budget_holds_for_a_more_expensive_fallback(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", WORKFLOW.replace(SECOND, "openai:gpt-5.5"))
    with serving(monkeypatch, always=lambda body: PASS if body["model"] == "gpt-5.5" else BUSY) as server:
        done = aethr("run", "--max-cost", "0.2", TASK)
    assert done.code == 0, done.err
    first, last = server.bodies[0], server.bodies[-1]
    assert last["model"] == "gpt-5.5"
    assert last["max_completion_tokens"] < first["max_completion_tokens"]


def test_an_answer_of_a_fallback_is_not_used_for_the_models_question(
    project: Repo, monkeypatch: pytest.MonkeyPatch, aethr: Aethr, tmp_path: Path
) -> None:
    """The hook keeps whole answers: those of the model itself only."""
    project.write(".aethr.yaml", WORKFLOW)
    project.git("add", "-A")
    words = ["hook", "--checkpoint-dir", str(tmp_path / "kept")]
    now = {"gpt": BUSY, "grok": PASS}

    def answer(body: dict[str, Any]) -> Reply | str:
        return by_model(**now)(body)

    with serving(monkeypatch, always=answer) as server:
        assert aethr(*words).code == 0
        asked = len(server.bodies)
        now["gpt"] = REVISE
        assert aethr(*words).code == 1, "the model itself has not answered yet"
        assert [body["model"] for body in server.bodies[asked:]] == ["gpt-5.4-mini"]
        asked = len(server.bodies)
        assert aethr(*words).code == 1
        assert aethr(*words, "--no-fallback").code == 1, "the fallbacks are no part of the question"
        assert server.bodies[asked:] == []


def test_tokens_of_the_failed_model_are_in_the_totals(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", WORKFLOW.replace("max_tokens: 30000", "max_tokens: 30000, timeout_s: 1"))
    counted = {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}}
    slow = Reply(pieces=(f"data: {json.dumps(counted)}\n\n".encode(), 30.0), content_type="text/event-stream")
    with serving(monkeypatch, always=by_model(gpt=slow, grok=PASS)):
        done = aethr("run", "--json", TASK)
    assert done.code == 0, done.err
    assert done.record["totals"]["prompt_tokens"] == 100 + 10
