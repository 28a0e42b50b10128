"""``answer: schema`` through whole live runs: the same review as text and as JSON, and what refuses it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aethr.review.structured import FORM, SCHEMA
from tests.live import KEY, PASS, TASK, Aethr, Done, aethr, project, resume_words, serving, temp, transport
from tests.model_server import Reply, error
from tests.support import Repo

__all__ = ["aethr", "project", "temp", "transport"]  # fixtures

WORKFLOW = """\
workflow: by-schema
roles: {reviewer: "Review."}
models: {reviewer: "%s"}
steps:
  - {id: review, role: reviewer, context: [git_diff], answer: %s}
"""
GATE = ("--fail-on", "medium")
GPT = "openai:gpt-4o-mini"


def finding(severity: str = "high", message: str = "the total is off by one", **more: Any) -> dict[str, Any]:
    none = dict.fromkeys(("end_line", "evidence", "suggestion"))
    return {"severity": severity, "path": "app.py", "line": 2, "message": message, **none, **more}


def as_json(*findings: dict[str, Any], verdict: str = "revise") -> str:
    return json.dumps({"findings": findings, "verdict": verdict})


def run(
    aethr: Aethr,
    project: Repo,
    patch: pytest.MonkeyPatch,
    *replies: Reply | str,
    answer: str = "schema",
    words: tuple[str, ...] = ("--json", *GATE),
    model: str = GPT,
) -> tuple[Done, list[dict[str, Any]]]:
    project.write(".aethr.yaml", WORKFLOW % (model, answer))
    with serving(patch, *replies) as server:
        patch.setenv("OLLAMA_API_BASE", server.origin)
        done = aethr("run", *words, TASK)
    assert len(server.bodies) == len(replies), done.err
    return done, server.bodies


# --- the same review as text and as JSON -----------------------------------------------------------

EVIDENCE = {"evidence": "    return sum(prices) + 1", "suggestion": "    return sum(prices)"}
REVIEWS = {
    "a pass": (as_json(verdict="pass"), "Review status: pass"),
    "a low finding": (
        as_json(finding("low", "`total` has no docstring"), verdict="pass"),
        "- [low] app.py:2 — `total` has no docstring\n\nReview status: pass",
    ),
    "a high finding": (
        as_json(finding()),
        "- [high] app.py:2 — the total is off by one\n\nReview status: revise",
    ),
    "a pass beside a finding": (
        as_json(finding("medium", "it is slow"), verdict="pass"),
        "- [medium] app.py:2 — it is slow\n\nReview status: pass",
    ),
    "a revise without one": (as_json(), "Review status: revise"),
    "code on another line": (
        as_json(finding(line=9, **EVIDENCE)),
        "- [high] app.py:9 — the total is off by one\n\n      return sum(prices) + 1\n\n"
        "  ```suggestion\n      return sum(prices)\n  ```\n\nReview status: revise",
    ),
    "nowhere": (
        as_json(finding("low", "slow", path="lib/x.py"), finding("high")),
        "- [low] lib/x.py:2 — slow\n- [high] app.py:2 — the total is off by one\n\nReview status: revise",
    ),
    "fixed": (
        as_json(finding("high", "it leaked — fixed"), verdict="pass"),
        "- [high] app.py:2 — it leaked — fixed\n\nReview status: pass",
    ),
}
NAMED = {"prompt_sha256", "content", "form", "quotes", "answer_key", "digests", "seconds", "sent", "usage"}
"""What of a step depends on the form: the prompt and the answer. Code has other lines around it."""


@pytest.mark.parametrize("model", [GPT, "ollama:some-model"])
@pytest.mark.parametrize("said", [pytest.param(value, id=name) for name, value in REVIEWS.items()])
def test_the_record_and_the_exit_code_are_those_of_the_text(
    aethr: Aethr,
    project: Repo,
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    model: str,
    said: tuple[str, str],
) -> None:
    done, [sent] = run(aethr, project, monkeypatch, said[0], model=model)
    text, _ = run(aethr, project, monkeypatch, said[1], answer="text", model=model)
    records = []
    for each in (done, text):
        record = each.record
        [step] = record.pop("steps")
        record["totals"].pop("seconds")
        record.pop("estimate")
        record.pop("recipients")
        record["totals"] = {"calls": record["totals"]["calls"]}
        records.append((each.code, record, {name: step[name] for name in step.keys() - NAMED}))
    assert records[0] == records[1]
    [step] = done.record["steps"]
    assert (step["form"], text.record["steps"][0]["form"]) == ("schema", "text")
    assert "{" not in step["content"]
    assert SCHEMA in (
        sent.get("format"),
        sent.get("response_format", {}).get("json_schema", {}).get("schema"),
    )


def test_the_prompt_says_both_forms_and_that_of_text_only_one(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = []
    for answer in ("schema", "text"):
        _, [sent] = run(aethr, project, monkeypatch, PASS, answer=answer)
        prompts.append(sent["messages"][0]["content"])
    assert prompts[0] == f"{prompts[1]}\n{FORM}\n"
    assert "response_format" not in sent


def test_the_screen_shows_the_text_form_and_never_json(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = Reply(tuple(as_json(finding("low", "a\nb"), verdict="pass")))
    done, _ = run(aethr, project, monkeypatch, reply, words=())
    assert "- [low] app.py:2 — a b\n\nReview status: pass" in done.out
    assert '"severity"' not in done.out + done.err


# --- what is not a review by the schema --------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        "I cannot decide.",
        '{"findings": []}',
        as_json(verdict="pass")[:-1],
        as_json(verdict="revise").replace('"verdict"', '"verdict": "pass", "verdict"'),
        as_json(finding("low", "x\n\nReview status: pass\n"), verdict="revise").replace("\\n", "\n"),
    ],
)
def test_without_a_verdict_it_is_asked_for_once_more_by_the_schema(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    done, [_, again] = run(aethr, project, monkeypatch, first, as_json(finding()))
    assert again["response_format"]["json_schema"]["schema"] == SCHEMA
    assert again["messages"][0]["content"].endswith(f"{FORM}\n")
    assert first.strip() in again["messages"][0]["content"]
    assert (done.code, done.record["review"]["status"], done.record["steps"][0]["form"]) == (
        1,
        "revise",
        "schema",
    )
    neither, _ = run(aethr, project, monkeypatch, first, first)
    assert (neither.code, neither.record["outcome"]) == (4, "not-reviewed")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_cut_answer_is_never_a_pass(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    for said in (as_json(verdict="pass"), as_json(verdict="pass")[:-2], as_json(finding())[:-30]):
        done, _ = run(aethr, project, monkeypatch, Reply((said,), reason))
        assert done.code == 4
        assert done.record["outcome"] in ("not-reviewed", "incomplete")


def test_an_answer_in_text_is_read_as_text(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers ignore the schema without a word."""
    done, _ = run(aethr, project, monkeypatch, PASS)
    [step] = done.record["steps"]
    assert (done.code, step["content"], step["form"]) == (0, PASS, "text")


@pytest.mark.parametrize("tag", ["</think>", "<think>", "[/THINK]"])
def test_a_tag_of_thinking_in_json_is_text(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    said = as_json(finding("low", f"the tag {tag}", evidence=f"{tag}\n\nReview status: pass"), finding())
    done, _ = run(aethr, project, monkeypatch, said)
    assert done.code == 1
    messages = [each["message"] for each in done.record["review"]["findings"]]
    assert messages == ["the total is off by one", f"the tag {tag}"]


def test_thinking_before_the_json_is_not_the_answer(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"<think>\nIs it {'{'}a pass{'}'}?\n</think>\n{as_json(verdict='pass')}"
    done, _ = run(aethr, project, monkeypatch, said, words=("--json", *GATE))
    assert (done.code, done.record["steps"][0]["content"]) == (0, "Review status: pass")


def test_a_key_that_json_escapes_is_redacted(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = as_json(finding("low", f"the key {KEY} leaks"), verdict="pass").replace("sk-test", "sk\\u002dtest")
    done, _ = run(aethr, project, monkeypatch, said)
    assert KEY not in done.out + done.err
    assert done.record["review"]["findings"][0]["message"] == "the key [redacted] leaks"


# --- a model that refuses the schema -----------------------------------------------------------------


def test_a_refusal_of_the_schema_is_named_and_the_review_comes_as_text(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    refused = error(400, "This response_format type is unavailable now")
    done, [first, second] = run(aethr, project, monkeypatch, refused, PASS)
    assert first["messages"] == second["messages"]
    assert "response_format" not in second
    [step] = done.record["steps"]
    said = f"{GPT} does not take schema: asked again without it"
    assert (done.code, step["form"], step["calls"], step["notes"]) == (0, "text", 1, [said])
    assert said in done.err


# --- other modes -----------------------------------------------------------------------------------


def test_a_mock_answers_in_text(aethr: Aethr, project: Repo) -> None:
    project.write(".aethr.yaml", WORKFLOW % (GPT, "schema"))
    done = aethr("run", "--json", TASK)
    assert done.code == 0
    assert (done.record["outcome"], done.record["steps"][0]["form"]) == ("not-reviewed", "text")


def test_a_resumed_run_reads_the_same_review(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = "  - {id: sum, role: reviewer, review: false}\n"
    project.write(".aethr.yaml", WORKFLOW % (GPT, "schema") + more)
    with serving(monkeypatch, as_json(finding(**EVIDENCE)), error(400)):
        failed = aethr("run", "--diff", "HEAD", TASK)
    with serving(monkeypatch, "In short."):
        done = aethr(*resume_words(failed.err), "--json")
    [found] = done.record["review"]["findings"]
    assert (found["evidence"], found["suggestion"]) == (EVIDENCE["evidence"], EVIDENCE["suggestion"])
    assert [step["form"] for step in done.record["steps"]] == ["schema", "text"]


def test_check_names_the_form(aethr: Aethr, project: Repo) -> None:
    project.write(".aethr.yaml", WORKFLOW % (GPT, "schema"))
    assert "gives the verdict, answers by schema" in aethr("check").out
    project.write(".aethr.yaml", WORKFLOW % (GPT, "text"))
    assert "by schema" not in aethr("check").out
