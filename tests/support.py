"""Things tests build the real world from: git repositories, the installed command."""

from __future__ import annotations

import os
import py_compile
import re
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from aethr import git
from aethr.base.records import (
    Artifacts,
    Checkout,
    Collected,
    Completion,
    Mode,
    Notice,
    Plan,
    PlannedStep,
    Request,
    Review,
    RunOutcome,
    Scope,
    Spent,
    StepSpec,
    Survey,
    TextDelta,
    Usage,
    View,
    WorkflowSpec,
)
from aethr.context.diffs import without_numbers
from tests.warm import run_aethr

PACKAGE = (
    *("pyproject.toml", "README.md", "LICENSE", "aethr.schema.json"),
    *("aethr", "cases", "demo", "presets"),
)
"""The files and folders that the package is built from."""


@dataclass(frozen=True, slots=True)
class Repo:
    """A real git repository in a temporary folder."""

    root: Path

    def git(self, *args: str, check: bool = True) -> str:
        done = subprocess.run(["git", *args], cwd=self.root, capture_output=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"git {args} failed ({done.returncode}): {done.stderr.decode()}")
        return done.stdout.decode()

    def write(self, name: str, content: str | bytes = "text\n") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def commit(self, message: str = "change") -> str:
        """Commit everything in the tree; give the new commit's id."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").strip()


def make_repo(root: Path) -> Repo:
    root.mkdir(parents=True, exist_ok=True)
    repo = Repo(root)
    repo.git("init", "-q", "-b", "main")
    return repo


def checkout_of(root: Path) -> Checkout:
    here = git.checkout(root)
    assert here is not None
    return here


def surveyed(root: Path, scope: Scope) -> Survey:
    """What ``git.diff`` reads, of the repository that ``root`` is in."""
    return git.survey(checkout_of(root), scope)


def leave_a_conflict(repo: Repo, name: str = "a.py") -> None:
    """A merge that stopped: both branches changed this file."""
    repo.write(name, "base\n")
    repo.commit()
    repo.git("switch", "-q", "-c", "topic")
    repo.write(name, "theirs\n")
    repo.commit()
    repo.git("switch", "-q", "main")
    repo.write(name, "ours\n")
    repo.commit()
    repo.git("merge", "topic", check=False)


_HUNK = re.compile(r"^@@ .*\n(?:(?![0-9a-f]{12}>>>)[ 0-9\\-].*\n)*", re.MULTILINE)


def without_gutter(prompt: str) -> str:
    """A prompt whose hunks are as git prints them, without the numbers in front of their lines."""
    return _HUNK.sub(lambda hunk: without_numbers(hunk[0]), prompt)


def log_git(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """From now on each call of git adds a line to this file: its subcommand."""
    real, log = shutil.which("git"), folder / "git-calls"
    program = folder / "logging" / "git"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
for word; do
    case $skip$word in
        -c) skip=skip ;;
        -*) ;;
        skip*) skip= ;;
        *) break ;;
    esac
done
echo "$word" >>'{log}'
exec '{real}' "$@"
"""
    )
    program.chmod(0o755)
    log.touch()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return log


def aethr(
    *args: str,
    cwd: Path,
    env: dict[str, str] | None = None,
    stdin: str | bytes = b"",
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run ``aethr`` as a user would, in its own process; see ``tests.warm`` for how it is started."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = run_aethr(args, cwd, {**os.environ, **(env or {})}, given, timeout)
    return subprocess.CompletedProcess(args, done.returncode, _text(done.stdout), _text(done.stderr))


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")


def compile_below(folder: Path) -> int:
    """Compile each ``.py`` as ``pip install`` does with those of a wheel; how many there were."""
    sources = list(folder.rglob("*.py"))
    for source in sources:
        py_compile.compile(
            str(source), str(source.parent / "__pycache__" / f"{source.stem}.pyc"), doraise=True
        )
    return len(sources)


def prompts(*args: str, cwd: Path) -> bytes:
    """What ``aethr run --show-prompt`` prints, byte for byte."""
    done = run_aethr(("run", "--show-prompt", *args), cwd, os.environ, b"", timeout=60)
    done.check_returncode()
    return done.stdout


NIGHTLY = bool(os.environ.get("NIGHTLY"))
"""Whether this is the run that leaves nothing out: ``.ci/nightly`` sets it."""


def nightly(what: str) -> pytest.MarkDecorator:
    """A test for which ``.ci/run`` has no time, and why: for example "minutes with real agents"."""
    return pytest.mark.skipif(not NIGHTLY, reason=f"{what}: only in .ci/nightly, which sets NIGHTLY")


def tiered(cases: Iterable[Any], *, fast: int = 0, ci: int) -> list[Any]:
    """These as parameters: the first ``fast`` in every suite, the first ``ci`` in ``.ci/run``, all at night.

    A case of several arguments is a tuple. One skip stands for all that only the night tries.
    """
    listed = [case if isinstance(case, tuple) else (case,) for case in cases]
    chosen = [
        pytest.param(*case, marks=() if number < fast else pytest.mark.slow)
        for number, case in enumerate(listed[: len(listed) if NIGHTLY else ci])
    ]
    if left := len(listed) - len(chosen):
        marks = (pytest.mark.slow, nightly(f"{left} more cases"))
        chosen.append(pytest.param(*listed[0], id="at night", marks=marks))
    return chosen


def spread(cases: Iterable[Any]) -> list[Any]:
    """The same in an order of which each beginning is spread evenly over all of them."""
    listed = list(cases)
    step = next(n for n in range(round(len(listed) * 0.618), len(listed) + 2) if gcd(n, len(listed)) == 1)
    return [listed[number * step % len(listed)] for number in range(len(listed))]


def pairs(longer: Iterable[Any], shorter: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Every pair, in an order of which the first ``len(longer)`` have each value of both axes."""
    rows, columns = list(longer), list(shorter)
    assert len(rows) >= len(columns)
    return [
        (row, columns[(number + shift) % len(columns)])
        for shift in range(len(columns))
        for number, row in enumerate(rows)
    ]


def many(examples: int, **more: Any) -> settings:
    """So many examples of a property at night; ``.ci/run`` takes half of them, the fast suite a quarter."""
    return settings(max_examples=examples * settings.default.max_examples // 100, **more)


def having(setting: str) -> dict[int, str]:
    """Other processes with this setting in their environment, which Linux tells: id and command line."""
    found: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                settings = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes()
                if setting.encode() in settings and command:
                    found[int(folder.name)] = command.decode(errors="replace")
    return found


Answer = str | Completion | BaseException


@dataclass(slots=True)
class Script:
    """A backend that plays the answers it was given and remembers what it was asked."""

    answers: list[Answer]
    requests: list[Request] = field(default_factory=list)
    failed: Usage | None = None
    """Counted for an attempt that fails before each answer."""

    def preflight(self, requests: Sequence[Request]) -> None:
        """Nothing can be missing."""

    def warm(self, requests: Sequence[Request]) -> None:
        """Nothing takes long."""

    def complete(self, request: Request) -> Generator[TextDelta | Spent | Notice, None, Completion]:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if self.failed is not None:
            yield Spent(self.failed)
        if isinstance(answer, BaseException):
            raise answer
        completion = answer if isinstance(answer, Completion) else said(answer)
        yield TextDelta(completion.content)
        return completion


def said(content: str, *changed: str, edited: bool = False, **more: object) -> Completion:
    """A completion of 10 + 2 tokens and one cent; with ``changed`` (or ``edited``) that of an agent."""
    artifacts = (
        Artifacts(changed, f"{len(changed)} files", f"diff of {changed}") if changed or edited else None
    )
    usage = Usage(10, 2, 12, 0.01)
    fields = {"model": "test:m", "finish_reason": "stop", "usage": usage, "artifacts": artifacts, **more}
    return Completion(content=content, **fields)


def nothing(_: View) -> Collected:
    return Collected(((),))


def outcome_of(review: Review, mode: Mode = "live") -> RunOutcome:
    """What a record that a test makes up says of its review."""
    if review.reason == "nothing changed":
        return "nothing-to-review"
    if mode != "live" or review.status == "none":
        return "not-reviewed"
    return "incomplete" if review.reason else review.status


def make_plan(
    steps: Sequence[StepSpec],
    backend: Script,
    collect: Mapping[str, Callable[[View], Collected]] | None = None,
    **more: object,
) -> Plan:
    """A live plan of ``steps`` on one scripted backend; steps with backend ``agent`` edit the tree."""
    roles = {step.role: f"You {step.role}." for step in steps}
    fields = {"task": "the task", "root": Path("/"), "mode": "live", "scope": Scope(), **more}
    return Plan(
        workflow=WorkflowSpec("test", roles, {}, tuple(steps), "test.yaml"),
        steps=tuple(
            PlannedStep(
                spec=step,
                guidance=roles[step.role],
                model=None,
                backend=backend,
                edits_tree=step.backend == "agent",
                collect=(collect or {}).get(step.id, nothing),
            )
            for step in steps
        ),
        **fields,
    )
