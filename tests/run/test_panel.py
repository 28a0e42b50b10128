"""Several reviewers in whole live runs: one list, one threshold, one entry everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.live import TASK, Aethr, aethr, project, resume_words, serving, temp
from tests.model_server import error
from tests.support import Repo

__all__ = ("aethr", "project", "temp")

WORKFLOW = """\
workflow: panel
roles: {logic: "Look for wrong results.", security: "Look for holes.", sceptic: "Refute."}
models: {logic: "openai:gpt-4o-mini", security: "openai:gpt-4o-mini", sceptic: "openai:gpt-4o-mini"}
steps:
  - {id: logic, role: logic, review: true, context: [git_diff], history_visibility: none}
  - {id: security, role: security, review: true, context: [git_diff], history_visibility: none}
"""
VERIFY = '  - {id: check, role: sceptic, context: [git_diff, "file:guard.py"], verify: [logic, security]}\n'
GUARD = "def check(prices):\n    if not prices:\n        raise ValueError('there are no prices')\n"
ONE = "- [medium] app.py:2 — `total` of an empty list of prices is 1, which is a wrong sum"
SAME = "- [low] app.py:1-2 — The sum is wrong for an empty list of prices: `total` gives 1"
OTHER = "- [low] app.py:2 — the name `prices` is ambiguous"
DROP = """\
- 1: dropped — there is no empty list

      if not prices:
          raise ValueError('there are no prices')

"""


@pytest.fixture
def panel(project: Repo) -> Repo:
    project.write(".aethr.yaml", WORKFLOW)
    project.write("guard.py", GUARD)
    project.git("add", ".aethr.yaml", "guard.py")
    project.git("commit", "-q", "-m", "workflow")
    return project


def by_role(**answers: str) -> Any:
    """The answer of each role, so that the order of calls does not matter."""
    roles = {"logic": "Look for wrong results.", "security": "Look for holes.", "sceptic": "Refute."}

    def answer(body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        return next(answers[name] for name, text in roles.items() if text in prompt)

    return answer


def run(aethr: Aethr, patch: pytest.MonkeyPatch, *words: str, **answers: str) -> tuple[int, dict[str, Any]]:
    with serving(patch, always=by_role(**answers)):
        done = aethr("run", "--json", *words, TASK)
    assert done.out, done.err
    return done.code, done.record["review"]


def test_two_roles_that_review_give_one_list(
    aethr: Aethr, panel: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reports = [tmp_path / f"r{suffix}" for suffix in (".md", ".sarif", ".txt")]
    code, review = run(
        aethr,
        monkeypatch,
        "--fail-on",
        "medium",
        *(f"--report={path}" for path in reports),
        logic=f"{ONE}\n\nReview status: revise",
        security=f"{SAME}\n{OTHER}\n\nReview status: pass",
    )
    first, second = review["findings"]
    assert code == 1
    assert (first["severity"], first["line"], first["by"]) == ("medium", 2, ["logic", "security"])
    assert [(each["by"], each["severity"]) for each in first["also"]] == [(["security"], "low")]
    assert (second["severity"], second["by"], second["also"]) == ("low", ["security"], [])
    page, sarif, plain = (path.read_text(encoding="utf-8") for path in reports)
    results = json.loads(sarif)["runs"][0]["results"]
    assert [each["level"] for each in results] == ["warning", "note"]
    # The first was found on lines 1 to 2 too: whoever is shown, its fingerprint is the same.
    assert (first["id"], len(first["ids"]), second["ids"]) == (second["id"], 2, [])
    fingerprints = [each["partialFingerprints"]["aethrPlace/v1"] for each in results]
    assert fingerprints[0].startswith(min(first["ids"]))
    assert len(set(fingerprints)) == 2
    assert plain.count("app.py:2: [") == 2
    assert page.split("## ")[0].count("of an empty list of prices is 1") == 1


@pytest.mark.parametrize("order", [("logic", "security"), ("security", "logic")])
@pytest.mark.parametrize(
    "security", [f"{SAME}\n\nReview status: pass", "Review status: pass", "I cannot say."]
)
def test_one_threshold_counts_for_all_whatever_their_order(
    aethr: Aethr,
    panel: Repo,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[str, str],
    security: str,
) -> None:
    head, *steps = WORKFLOW.split("  - ")
    steps.sort(key=lambda step: order.index(step[5 : step.index(",")]))
    panel.write(".aethr.yaml", "  - ".join([head, *steps]))
    code, _ = run(
        aethr, monkeypatch, "--fail-on", "medium", logic=f"{ONE}\n\nReview status: revise", security=security
    )
    assert code == 1


def test_what_one_reviewer_says_stays_open_if_only_the_other_is_disproved(
    aethr: Aethr, panel: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finding of two is dropped with both, and has the severity of the one that stands."""
    panel.write(".aethr.yaml", WORKFLOW + VERIFY)
    said = {"logic": f"{ONE}\n\nReview status: revise", "security": f"{SAME}\n\nReview status: pass"}
    code, review = run(
        aethr, monkeypatch, "--fail-on", "medium", **said, sceptic=f"{DROP}- 2: stands\n\nChecked: all"
    )
    [found] = review["findings"]
    assert (code, found["severity"], found["check"]["dropped"]) == (0, "low", False)
    assert found["by"] == ["logic", "security"]
    both = f"{DROP}{DROP.replace('1:', '2:')}Checked: all"
    code, review = run(aethr, monkeypatch, "--fail-on", "low", **said, sceptic=both)
    [found] = review["findings"]
    assert (code, found["severity"], found["check"]["dropped"]) == (0, "medium", True)


def test_a_step_with_the_role_reviewer_may_be_none(
    aethr: Aethr, panel: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel.write(".aethr.yaml", WORKFLOW.replace("review: true", "review: false"))
    done = aethr("run", "--fail-on", "medium", TASK)
    assert done.code == 4
    assert "Write `review: true` in the step that reviews" in done.err


def test_a_review_is_not_resumed_as_an_answer(
    aethr: Aethr, panel: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the step was asked for has changed."""
    with serving(monkeypatch, "Review status: pass", error(400)):
        failed = aethr("run", "--jobs", "1", TASK)
    panel.write(".aethr.yaml", WORKFLOW.replace("review: true", "review: false", 1))
    with serving(monkeypatch):
        done = aethr(*resume_words(failed.err))
    assert done.code == 2
    assert "its review changed since then" in done.err
