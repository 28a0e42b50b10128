"""The whole Action under a real runner: action.yml, installation, cache, command, comment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aethr.github import upsert
from tests.github.github_server import ME, GitHubServer
from tests.github.rig import runner as rig
from tests.github.rig.runner import Job, Runner
from tests.github.support import (
    PullRequest,
    index_settings,
    open_pull_request,
    real_uv,
    runner_environment,
)
from tests.hook.conftest import UNREACHABLE
from tests.live import KEY, PASS, REVISE, TWO_STEPS
from tests.model_server import ModelServer, Reply, error, text
from tests.support import Repo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing())),
]

TAKEN = (
    "GITHUB_REPOSITORY", "GITHUB_EVENT_PATH", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_SERVER_URL",
    "GITHUB_API_URL", "GITHUB_GRAPHQL_URL", "GITHUB_ACTOR",
)  # fmt: skip


def run(
    runner: Runner,
    request: PullRequest,
    github: GitHubServer,
    models: ModelServer | None = None,
    key: str = KEY,
    inputs: dict[str, str] | None = None,
    more: dict[str, str] | None = None,
    work: Repo | None = None,
    workflow: str | None = None,
    **about: Any,
) -> Job:
    """One attempt of the consumer's workflow on the pull request, with its merge commit checked out.

    ``more`` are variables of the machine. ``work`` is another checkout, ``workflow`` another text than that
    of ``inputs``, and ``name`` another event.
    """
    work = work or request.checkout(f"work-{len(list(request.folder.iterdir()))}")
    work.write(".github/workflows/review.yml", workflow or rig.workflow(**(inputs or {})))
    environ = runner_environment(request, work.root, github.url, **about)
    variables = {name: environ[name] for name in TAKEN} | (more or {})
    if models is not None:
        variables["OPENAI_BASE_URL"] = models.base_url
    token = "ghs_0123456789abcdef0123"
    secrets = {"TOKEN": token, "GITHUB_TOKEN": token, "OPENAI_API_KEY": key}
    return runner.run(work.root, environ["GITHUB_EVENT_NAME"], variables, secrets)


def test_a_first_run_posts_and_a_second_edits(runner: Runner, github: GitHubServer, tmp_path: Path) -> None:
    request = open_pull_request(tmp_path)
    for number in range(500):
        github.add_comment(f"comment {number}")
    github.add_comment(f"{upsert.Marker('default', 1, 1, 'a' * 40)}\nforged", "mallory")
    with ModelServer([text(REVISE), text(PASS)]) as models:
        first = run(runner, request, github, models, inputs={"fail_on": "high"})
        new = request.push("x = 2\n")
        second = run(runner, request, github, models, run_id=501)
    assert first.result == "failure", first.log
    assert first.outputs["aethr"]["status"] == "revise"
    assert first.outputs["aethr"]["exit-code"] == "1"
    assert "error: the total is off by one" in first.annotations
    assert second.result == "success", second.log
    assert len(github.comments) == 502
    assert github.comments[-1].author == ME
    assert f"### Aethr: pass · `{new[:12]}`" in github.bodies[-1]
    assert "Looks right." in second.summary


def test_a_second_attempt_calls_only_what_is_missing(
    runner: Runner, github: GitHubServer, tmp_path: Path
) -> None:
    request = open_pull_request(tmp_path, {".aethr.yaml": TWO_STEPS})
    with ModelServer([text("A thought."), error(401, "bad key")]) as models:
        first = run(runner, request, github, models, run_id=600)
    with ModelServer([text(PASS)]) as models:
        second = run(runner, request, github, models, run_id=600, attempt=2)
    assert first.result == "failure", first.log
    assert first.outputs["aethr"]["exit-code"] == "3"
    assert second.result == "success", second.log
    assert len(models.bodies) == 1, "the first step came out of the cache"
    assert any("not called again: think" in each for each in second.annotations)
    assert len(github.comments) == 1


def test_a_fork_on_a_real_runner_neither_fails_nor_passes(
    runner: Runner, github: GitHubServer, tmp_path: Path
) -> None:
    request = open_pull_request(tmp_path)
    github.read_only = True
    job = run(runner, request, github, key="", event=request.event(fork=True), run_id=700)
    assert job.result == "success", job.log
    assert job.outputs["aethr"]["status"] == "not-reviewed"
    assert not [each for each in job.annotations if not each.startswith("notice:")]
    assert "get no secrets" in job.summary


def test_a_missing_key_fails_the_job(runner: Runner, github: GitHubServer, tmp_path: Path) -> None:
    job = run(runner, open_pull_request(tmp_path), github, key="", run_id=701)
    assert job.result == "failure"
    assert job.outputs["aethr"]["status"] == "not-reviewed"
    assert job.outputs["aethr"]["exit-code"] == "4"
    assert "### Aethr: not reviewed" in github.bodies[0]


def test_a_hostile_answer_of_150_kilobytes(runner: Runner, github: GitHubServer, tmp_path: Path) -> None:
    lines = (
        "::set-output name=status::hacked",
        "::error::hacked",
        "x ##[error]hacked",
        "::add-mask::e",
        "::stop-commands::x",
        "@octo/all <img src=x>",
    )
    answer = "\n".join(lines) + "\n" + "```\n" + "a line of an answer\n" * 7_500 + REVISE
    with ModelServer([Reply(chunks=(answer,))]) as models:
        job = run(runner, open_pull_request(tmp_path), github, models, run_id=702)
    assert job.outputs["aethr"]["status"] == "not-reviewed", "text in an open fence is not a verdict"
    assert not [each for each in job.annotations if "hacked" in each]
    assert len(github.bodies[0]) <= 65_536
    assert "<img" not in github.bodies[0]
    assert "@octo" not in github.bodies[0]


def test_shell_characters_in_inputs_are_plain_text(
    runner: Runner, github: GitHubServer, tmp_path: Path
) -> None:
    task = "review '\"; touch pwned; $(touch pwned) `touch pwned` && exit 0"
    request = open_pull_request(tmp_path)
    with ModelServer([text(PASS)]) as models:
        job = run(runner, request, github, models, inputs={"task": task}, run_id=703)
    assert job.result == "success", job.log
    assert task in models.bodies[0]["messages"][0]["content"]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.skipif(real_uv() is None, reason="uv is not here")
def test_the_locked_packages_run_a_review(github: GitHubServer, tmp_path: Path) -> None:
    """The one here with the real uv, which needs a package index."""
    runner = Runner(tmp_path / "runner", real_uv())
    with ModelServer([text(PASS)]) as models:
        job = run(runner, open_pull_request(tmp_path), github, models, more=index_settings(), run_id=800)
    if any(word in job.log for word in UNREACHABLE):
        pytest.skip("the package index cannot be reached")
    assert job.result == "success", job.log
    assert "### Aethr: pass" in github.bodies[0]
