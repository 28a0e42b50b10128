"""The recipe of a review in shards, unchanged, under a real runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.github.github_server import GitHubServer
from tests.github.rig import runner as rig
from tests.github.rig.runner import Job, Runner
from tests.github.support import PullRequest, merge, open_pull_request, runner_environment
from tests.github.test_runner import TAKEN
from tests.live import KEY
from tests.model_server import ModelServer, Reply, error, text
from tests.pages import of_kind
from tests.support import nightly

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing())),
]

SECTION = next(block.section for block in of_kind("file") if "aethr/action/merge" in block.text)
FILES = {block.about: block.text for block in of_kind("file") if block.section == SECTION}
ALL = {"shard 1/3", "shard 2/3", "shard 3/3", "review"}
BUG = "- [high] m9.py:2 — the total is off by one\n\nReview status: revise"
PASS = "Fine.\n\nReview status: pass"


@pytest.fixture
def wide(tmp_path: Path) -> PullRequest:
    """A pull request of 18 files, whose review takes at least six parts."""
    small = FILES[".aethr.yaml"].replace("limits: {", "limits: {context_chars: 4000, ")
    assert small != FILES[".aethr.yaml"]
    request = open_pull_request(tmp_path, {".aethr.yaml": small})
    request.origin.git("checkout", "-q", "feature")
    for number in range(18):
        lines = "".join(f"line {line} of file {number}\n" for line in range(60))
        request.origin.write(f"m{number}.py", lines)
    request.head = request.origin.commit("wide")
    merge(request.origin)
    return request


def review(body: dict[str, Any]) -> Reply:
    return text(BUG if "of file 9\n" in body["messages"][0]["content"] else PASS)


def run(
    runner: Runner,
    request: PullRequest,
    github: GitHubServer,
    models: ModelServer,
    *only: str,
    **about: int,
) -> dict[str, Job]:
    """An attempt of the workflow; ``only`` chooses among its jobs, ``about`` says the run and the attempt."""
    work = request.checkout(f"work-{len(list(request.folder.iterdir()))}")
    work.write(".github/workflows/review.yml", FILES[".github/workflows/review.yml"])
    environ = runner_environment(request, work.root, github.url, **about)
    variables = {name: environ[name] for name in TAKEN} | {"OPENAI_BASE_URL": models.base_url}
    secrets = {"GITHUB_TOKEN": "ghs_0123456789abcdef0123", "OPENAI_API_KEY": KEY}
    return runner.run_all(work.root, "pull_request", variables, secrets, only)


def results(jobs: dict[str, Job]) -> dict[str, str]:
    return {name: job.result for name, job in jobs.items()}


def test_three_shards_and_their_merge(runner: Runner, github: GitHubServer, wide: PullRequest) -> None:
    with ModelServer(review) as models:
        jobs = run(runner, wide, github, models, run_id=900)
    assert results(jobs) == dict.fromkeys(ALL - {"review"}, "success") | {"review": "failure"}, jobs[
        "review"
    ].log
    merged = next(iter(jobs["review"].outputs.values()))
    assert (merged["status"], merged["exit-code"], merged["findings"]) == ("revise", "1", "1")
    assert jobs["review"].annotations[0] == "error: the total is off by one"
    told = [each for name in ALL - {"review"} for each in jobs[name].annotations]
    assert not [each for each in told if not each.startswith("notice: ")]
    assert len(models.bodies) >= 6
    assert len({artifact.name for artifact in github.artifacts}) == 3
    [body] = github.bodies
    assert f"### Aethr: revise · `{wide.head[:12]}`" in body
    assert "100% of the changed lines" in body


@nightly("it runs four workflows")
def test_a_shard_that_failed_runs_again_alone(
    runner: Runner, github: GitHubServer, wide: PullRequest
) -> None:
    def failing(body: dict[str, Any]) -> Reply:
        return error(401, "bad key") if "of file 9\n" in body["messages"][0]["content"] else review(body)

    with ModelServer(failing) as models:
        first = run(runner, wide, github, models, run_id=910)
    # To act, a job of a matrix has failed if one that ended before it has: what the step said is its own.
    codes = {name: {each.get("exit-code") for each in job.outputs.values()} for name, job in first.items()}
    [failed] = [name for name, said in codes.items() if "3" in said]
    assert first["review"].result == "failure"
    number = failed.removeprefix("shard ")
    assert f"Shard {number[0]} of 3 is missing" in github.bodies[0]
    assert "### Aethr: incomplete" in github.bodies[0]
    assert len(github.artifacts) == 2

    with ModelServer(review) as models:
        second = run(runner, wide, github, models, f"--matrix=shard:{number}", run_id=910, attempt=2)
        assert results(second) == {failed: "success", "review": "failure"}
        assert 1 <= len(models.bodies) < 3, "what the shard had finished came out of the cache"
        called = len(models.bodies)
        assert "### Aethr: revise" in github.bodies[0]
        again = run(
            runner, wide, github, models, "--job=review", "--matrix=shard:none", run_id=910, attempt=3
        )
        assert again["review"].result == "failure"
        assert len(models.bodies) == called, "the merge alone calls nothing"
    assert len(github.comments) == 1
    ours = [each for each in github.artifacts if each.name.endswith("-attempt-2")]
    assert [each.name for each in ours] == [f"aethr-default-shard-{number[0]}-of-3-attempt-2"]

    forged = json.dumps({"schema": 2}).encode()
    github.add_artifact(ours[0].name.replace("-attempt-2", "-attempt-4"), forged, run=910)
    with ModelServer(review) as models:
        last = run(runner, wide, github, models, "--job=review", "--matrix=shard:none", run_id=910, attempt=4)
    assert last["review"].result == "failure"
    assert "### Aethr: incomplete" in github.bodies[0]
    assert "does not count" in github.bodies[0]
