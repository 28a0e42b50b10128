"""A pull request as a runner sees it: an origin, a checkout, an event, an environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.live import KEY
from tests.model_server import ModelServer
from tests.support import Repo, make_repo

REPOSITORY = "octo/shop"
WORKFLOW = """\
workflow: house-review
roles: {reviewer: "Review."}
models: {reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""


@dataclass(frozen=True)
class Started:
    """A step that runs, and the environment that it was given."""

    child: subprocess.Popen[str]
    environ: dict[str, str]


@dataclass
class PullRequest:
    """A repository with a branch to be merged; main has moved on since. Commits are full ids."""

    folder: Path
    origin: Repo
    base: str
    head: str
    common: str
    files: dict[str, Path] = field(default_factory=dict)

    def event(self, *, fork: bool = False, login: str = "ann", number: int = 7) -> dict[str, Any]:
        """A payload with the fields of GitHub's ``pull_request`` that matter, and some that must not."""
        ours = {"id": 1, "full_name": REPOSITORY}
        theirs = {"id": 2, "full_name": "mallory/shop"} if fork else ours
        return {
            "action": "synchronize",
            "pull_request": {
                "number": number,
                "title": "$(touch pwned) ${{ secrets.X }} ::error::title",
                "user": {"login": login},
                "base": {"ref": "main", "sha": self.base, "repo": ours},
                "head": {"ref": "`touch pwned`", "sha": self.head, "repo": theirs},
            },
            "repository": {"full_name": REPOSITORY, "default_branch": "main"},
        }

    def comment(
        self, body: str, *, login: str = "ann", action: str = "created", kind: str = "User", number: int = 7
    ) -> dict[str, Any]:
        """A payload of ``issue_comment`` on a pull request: it does not say which commits that has."""
        return {
            "action": action,
            "issue": {
                "number": number,
                "title": "$(touch pwned) ${{ secrets.X }} ::error::title",
                "pull_request": {"url": f"https://api.github.com/repos/{REPOSITORY}/pulls/{number}"},
            },
            "comment": {
                "id": 99,
                "body": body,
                "user": {"login": login, "type": kind},
                "created_at": "2026-01-02T12:00:00Z",
                "author_association": "NONE",
            },
            "repository": {"full_name": REPOSITORY, "default_branch": "main"},
        }

    def checkout(self, name: str = "work", depth: int | None = None, commit: str | None = None) -> Repo:
        """What actions/checkout leaves: the merge commit, detached, whole or with so many generations."""
        root = self.folder / name
        repo = make_repo(root)
        shallow = [f"--depth={depth}"] if depth else []
        wanted = commit or "refs/pull/7/merge"
        repo.git("fetch", "-q", "--no-tags", *shallow, self.url, f"+{wanted}:refs/remotes/pull/7/merge")
        repo.git("checkout", "-q", "--detach", "refs/remotes/pull/7/merge")
        return repo

    @property
    def url(self) -> str:
        return f"file://{self.origin.root}"

    @property
    def server(self) -> str:
        return f"file://{self.folder}/server"

    def push(self, content: str, name: str = "app.py") -> str:
        """One more commit on the branch, and a new merge commit."""
        self.origin.git("checkout", "-q", "feature")
        self.origin.write(name, content)
        self.head = self.origin.commit("more")
        merge(self.origin)
        return self.head

    def link(self, name: str, target: Path) -> str:
        """One more commit on the branch, with a symbolic link."""
        self.origin.git("checkout", "-q", "feature")
        (self.origin.root / name).symlink_to(target)
        self.head = self.origin.commit(f"link {name}")
        merge(self.origin)
        return self.head


def open_pull_request(folder: Path, files: dict[str, str] | None = None, commits: int = 1) -> PullRequest:
    """Main and a branch part; main gets another commit; the branch gets ``commits``."""
    origin = make_repo(folder / "server" / "octo" / "shop")
    origin.git("config", "uploadpack.allowAnySHA1InWant", "true")
    origin.write("app.py", "def total(prices):\n    return sum(prices)\n")
    for name, text in (files or {}).items():
        origin.write(name, text)
    common = origin.commit("start")
    origin.git("checkout", "-q", "-b", "feature")
    for number in range(commits - 1):
        origin.write("notes.txt", f"{number}\n")
        origin.commit(f"note {number}")
    origin.write("app.py", "def total(prices):\n    return sum(prices) + 1\n")
    head = origin.commit("change")
    origin.git("checkout", "-q", "main")
    origin.write("other.py", "x = 1\n")
    base = origin.commit("main moves on")
    merge(origin)
    return PullRequest(folder, origin, base, head, common)


def merge(origin: Repo) -> None:
    origin.git("checkout", "-q", "--detach", "main")
    origin.git("merge", "-q", "--no-ff", "-m", "merge", "feature")
    origin.git("update-ref", "refs/pull/7/merge", "HEAD")
    origin.git("checkout", "-q", "main")


def runner_environment(
    request: PullRequest,
    workspace: Path,
    api_url: str,
    event: dict[str, Any] | None = None,
    *,
    name: str = "pull_request",
    run_id: int = 500,
    attempt: int = 1,
) -> dict[str, str]:
    """The variables that a runner sets for a step, its files in a folder of this attempt."""
    folder = request.folder / f"runner-{run_id}-{attempt}"
    folder.mkdir(exist_ok=True)
    payload = folder / "event.json"
    payload.write_text(json.dumps(request.event() if event is None else event), encoding="utf-8")
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_EVENT_NAME": name,
        "GITHUB_EVENT_PATH": str(payload),
        "GITHUB_SHA": "0" * 40,
        "GITHUB_REF": "refs/pull/7/merge",
        "GITHUB_ACTOR": "ann",
        "GITHUB_RUN_ID": str(run_id),
        "GITHUB_RUN_ATTEMPT": str(attempt),
        "GITHUB_JOB": "review",
        "GITHUB_WORKSPACE": str(workspace),
        "GITHUB_SERVER_URL": request.server,
        "GITHUB_API_URL": api_url,
        "GITHUB_GRAPHQL_URL": f"{api_url}/graphql",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_TOKEN": "ghs_0123456789abcdef0123",
        "RUNNER_TEMP": str(folder / "temp"),
        "AETHR_ACTION_CARRY": str(request.folder / "carry" / str(run_id)),
        "AETHR_RUN_REQUIRE_REVIEW": "true",
    }


def index_settings() -> dict[str, str]:
    """How this machine reaches a package index."""
    names = ("UV_", "SSL_", "PIP_CERT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return {name: value for name, value in os.environ.items() if name.startswith(names)}


def real_uv() -> Path | None:
    """uv beside the Python that runs the tests, else the one on PATH."""
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return Path(found) if found else None


def outputs(environ: dict[str, str]) -> dict[str, str]:
    """What the step gave as outputs; of a name the last value counts, as at GitHub."""
    lines = Path(environ["GITHUB_OUTPUT"]).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def summary(environ: dict[str, str]) -> str:
    return Path(environ["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8")


@contextmanager
def started(request: PullRequest, api_url: str, models: ModelServer) -> Iterator[Started]:
    """``aethr action`` as a process of its own, to be signalled."""
    work = request.checkout().root
    environ = runner_environment(request, work, api_url)
    environ |= {"OPENAI_BASE_URL": models.base_url, "OPENAI_API_KEY": KEY}
    with subprocess.Popen(
        [sys.executable, "-m", "aethr", "action"],
        cwd=work,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        yield Started(child, environ)
