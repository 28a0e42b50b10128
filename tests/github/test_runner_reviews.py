"""What a review does across pushes, beside the lines and on demand, under a real runner."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from aethr.output.markdown import BREAK
from tests.github.github_server import GitHubServer, Pull, Push
from tests.github.rig import runner as rig
from tests.github.rig.runner import Job, Runner
from tests.github.support import PullRequest, merge, open_pull_request
from tests.github.test_command import AFTER, AGENT, BEFORE, COMMAND
from tests.github.test_converge import WORKFLOW, content, heading, review_marks
from tests.github.test_runner import run
from tests.live import PASS, REVISE
from tests.model_server import ModelServer, text
from tests.pages import of_kind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing())),
]

GATE = {"fail_on": "high"}
[ON_DEMAND] = [block.text for block in of_kind("file") if block.about.endswith("review-on-demand.yml")]


def find_ids(github: GitHubServer) -> list[str]:
    """The ids that the comment shows with its findings."""
    return re.findall(r"\*\((?:.* )?([0-9a-f]{12})\)\*$", github.bodies[0], re.MULTILINE)


def test_pushes_ask_only_for_what_they_edit_and_a_moved_finding_keeps_its_id(
    runner: Runner, github: GitHubServer, tmp_path: Path
) -> None:
    files = {".aethr.yaml": WORKFLOW.format(context="git_diff"), "shop.py": content(9)}
    request = open_pull_request(tmp_path, files)
    request.origin.git("checkout", "-q", "feature")
    for number in range(4):
        request.origin.write(f"f{number}.py", content(number))
    request.push(content(9, "alpha"), "shop.py")
    with ModelServer(review_marks) as models:
        first = run(runner, request, github, models, inputs=GATE, run_id=1000)
        assert (first.result, first.outputs["aethr"]["exit-code"]) == ("failure", "1"), first.log
        asked, ids = len(models.bodies), find_ids(github)
        assert (asked >= 4, len(ids)) == (True, 1)

        request.push(f"import math\n\n{content(9, 'alpha')}", "shop.py")
        run(runner, request, github, models, inputs=GATE, run_id=1001)
        assert 1 <= len(models.bodies) - asked <= 2, "the part with the file, and perhaps a neighbour"
        assert (heading(github).count("1 still there"), find_ids(github)) == (1, ids)

        asked = len(models.bodies)
        request.origin.git("checkout", "-q", "feature")
        request.origin.git("mv", "shop.py", "store.py")
        request.head = request.origin.commit("rename")
        merge(request.origin)
        third = run(runner, request, github, models, inputs=GATE, run_id=1002)
        assert 1 <= len(models.bodies) - asked <= 2
        assert (heading(github).count("1 still there"), find_ids(github)) == (1, ids)
        assert "store.py:44" in github.bodies[0]

        asked = len(models.bodies)
        same = run(runner, request, github, models, inputs=GATE, run_id=1003)
        assert len(models.bodies) == asked, "the same bytes"
        assert same.outputs["aethr"]["status"] == third.outputs["aethr"]["status"] == "revise"
        assert (same.result, find_ids(github)) == ("failure", ids)
    assert len(github.comments) == 1


def test_a_finding_is_beside_its_line_once_and_its_thread_is_resolved_when_it_is_gone(
    runner: Runner, github: GitHubServer, tmp_path: Path
) -> None:
    request, inputs = open_pull_request(tmp_path), {"comment": "inline"}
    github.diff, github.may_resolve = {"app.py": [range(1, 3)]}, True
    with ModelServer([text(REVISE), text(PASS)]) as models:
        first = run(runner, request, github, models, inputs=inputs, run_id=1010)
        assert first.result == "success", first.log
        [beside] = github.beside
        assert (beside.path, beside.line, beside.commit) == ("app.py", 2, request.head)
        assert "Beside the code: 1 high." in github.bodies[0]
        run(runner, request, github, models, inputs=inputs, run_id=1011)
        assert (len(github.reviews), beside.resolved) == (1, False)
        request.push("def total(prices):\n    return sum(prices, 0)\n")
        third = run(runner, request, github, models, inputs=inputs, run_id=1012)
    assert third.outputs["aethr"]["status"] == "pass", third.log
    assert (len(github.reviews), github.beside, beside.resolved) == (1, [beside], True)


def test_an_answer_of_a_writer_opens_the_gate_of_the_next_run(
    runner: Runner, github: GitHubServer, tmp_path: Path
) -> None:
    request = open_pull_request(tmp_path)
    github.permissions |= {"bob": "write", "carol": "read"}
    with ModelServer([text(REVISE)]) as models:
        assert run(runner, request, github, models, inputs=GATE, run_id=1020).result == "failure"
        [own] = find_ids(github)
        github.add_comment(f"/aethr answer {own} it is a fee", "bob")
        github.add_comment(f"/aethr answer {own} not mine to say", "carol")
        second = run(runner, request, github, models, inputs=GATE, run_id=1021)
        assert len(models.bodies) == 1, "an answer is no part of the prompt"
    assert (second.result, second.outputs["aethr"]["status"]) == ("success", "pass"), second.log
    assert "<summary>Answered: 1 high</summary>" in github.bodies[0]
    assert "it is a fee (@bob)" in github.bodies[0].replace("\\", "").replace(BREAK, "")


def order(
    runner: Runner, request: PullRequest, github: GitHubServer, commit: str, run_id: int, **inputs: str
) -> tuple[Job, ModelServer]:
    """The workflow of the page, with more inputs, for ``/aethr review`` of ann with a commit checked out."""
    github.permissions["ann"] = "write"
    document = yaml.safe_load(ON_DEMAND)
    document["on"] = document.pop(True)  # what YAML 1.1 reads there
    document["jobs"]["review"]["steps"][1]["with"] |= {n.replace("_", "-"): v for n, v in inputs.items()}
    about: dict[str, Any] = {
        "name": "issue_comment",
        "event": request.comment("/aethr review"),
        "run_id": run_id,
    }
    about |= {"work": request.checkout(f"work-{run_id}", 1, commit)}
    about |= {"more": {"SHA_REF": request.base}}  # act would take what is checked out for the default branch
    workflow = yaml.safe_dump(document) if inputs else ON_DEMAND
    with ModelServer(lambda _: text(REVISE)) as models:
        return run(runner, request, github, models, workflow=workflow, **about), models


def test_a_command_reviews_the_commit_that_it_named_without_checking_it_out(
    runner: Runner, github: GitHubServer, tmp_path: Path
) -> None:
    request = open_pull_request(tmp_path)
    named, later = request.head, request.push("stolen = 1\n", "more.py")
    github.pulls[7] = Pull("main", later, "mallory/shop")
    github.pushes = [
        Push(named, later, AFTER, "mallory/shop"),
        Push(request.common, named, BEFORE, "mallory/shop"),
    ]
    job, models = order(runner, request, github, request.base, 1030)
    assert job.result == "success", job.log
    prompt = models.bodies[0]["messages"][0]["content"]
    assert ("sum(prices) + 1" in prompt, "stolen" in prompt) == (True, False)
    assert "sum(prices) + 1" not in (tmp_path / "work-1030" / "app.py").read_text(encoding="utf-8")
    assert [(each["sha"], each["state"]) for each in github.statuses] == [
        (named, "pending"),
        (named, "success"),
    ]
    assert f"### Aethr: revise · `{named[:12]}`" in github.bodies[0]
    assert f"the head is {later[:12]} now" in github.bodies[0]


def test_a_command_refuses_a_checked_out_head(runner: Runner, github: GitHubServer, tmp_path: Path) -> None:
    request = open_pull_request(tmp_path)
    github.pulls[7] = Pull("main", request.head, "mallory/shop")
    job, models = order(runner, request, github, request.head, 1031)
    assert (job.result, models.bodies) == ("failure", []), job.log
    assert any("checked out, next to this run's secrets" in each for each in job.annotations)
    assert [(each["sha"], each["state"]) for each in github.statuses] == [
        (request.head, "pending"),
        (request.head, "error"),
    ]


@pytest.mark.parametrize(("workflow", "run_id"), [(AGENT, 1032), (COMMAND, 1033)], ids=["agent", "command"])
def test_a_command_refuses_agents_and_commands_that_the_inputs_allow(
    runner: Runner, github: GitHubServer, tmp_path: Path, workflow: str, run_id: int
) -> None:
    request = open_pull_request(tmp_path, {".aethr.yaml": workflow})
    github.pulls[7] = Pull("main", request.head)
    allowed = {"allow_agents_on_pull_requests": "true", "allow_commands_on_pull_requests": "true"}
    job, models = order(runner, request, github, request.base, run_id, **allowed)
    assert (job.result, models.bodies) == ("failure", []), job.log
    assert any("but this pull request is not checked out" in each for each in job.annotations)
    assert github.statuses[-1]["state"] == "error"
    assert not list(tmp_path.rglob("pwned"))
