"""The value of a key in a name (of a file, a step, a model, a source): no output shows it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest

from aethr.base import records, sanitize, secrecy
from aethr.base.errors import ExitCode
from aethr.base.records import (
    Artifacts,
    CommandCheck,
    Event,
    Finding,
    LoopResult,
    Receipt,
    Review,
    RunResult,
    Scope,
    StepResult,
    Totals,
)
from aethr.cli import main
from aethr.config import credentials
from aethr.output.report import FORMATS
from tests.live import PASS, TASK, Aethr, aethr, project, resume_words, serving, temp
from tests.model_server import Reply, error, text
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]

KEY = "abcdefgh0123456789-key-of-its-own"
LONG = "x" * 180
"""In front of a key it moves the key to where names are cut."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_API_KEY", KEY)


def shows(text: str) -> bool:
    """Whether so much of the key is there that the rest can be guessed."""
    return any(KEY[start : start + 12] in text for start in range(len(KEY) - 11))


NAMED = f"""\
workflow: house-{KEY}
roles:
  reviewer-{KEY}: "Review."
models:
  reviewer-{KEY}: openai:gpt-{KEY}
steps:
  - id: look-{KEY}
    role: reviewer-{KEY}
    context: [git_diff, "file:{KEY}.txt"]
    repeat: {{back_to: look-{KEY}, until_review_pass: true, max_iterations: 1}}
"""


@pytest.fixture
def named(project: Repo) -> Repo:
    project.write(".aethr.yaml", NAMED)
    project.write(f"{KEY}.txt", "old\n")
    project.commit()
    project.write(f"{KEY}.txt", f"{KEY}\nand {KEY}\n")
    return project


ANSWER = f"- [low] {KEY}.txt:1 — {KEY} is in it\n\nReview status: pass"


def written(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        yield path.name
        if path.is_file():
            yield path.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["--json"], ["--verbose"], ["--quiet"], []])
def test_no_name_in_a_run_shows_a_key(
    aethr: Aethr, named: Repo, temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    paths = [str(reports / f"report{suffix}") for suffix in FORMATS]
    options = [word for path in paths for word in ("--report", path)]
    with serving(monkeypatch, Reply(chunks=(ANSWER,), finish_reason=f"stop{KEY}")):
        done = aethr("run", *words, *options, "--checkpoint-dir", str(temp), f"do {KEY}")
    assert done.code == 0, done.err
    shown = [done.out, done.err, *written(temp), *written(reports)]
    assert len(shown) > 5 + len(FORMATS)
    assert [text for text in shown if shows(text)] == []
    assert "[redacted]" in done.out


def test_a_stopped_run_shows_no_key_and_can_be_resumed(
    aethr: Aethr, named: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = NAMED + f"  - {{id: again, role: reviewer-{KEY}, context: [git_diff]}}\n"
    named.write(".aethr.yaml", second)
    with serving(monkeypatch, text(ANSWER), error(400, f"no {KEY} here")) as server:
        done = aethr("run", "--verbose", TASK)
        assert done.code == 3
        assert [shown for shown in (done.out, done.err, *written(temp)) if shows(shown)] == []
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr(*resume_words(done.err))
    assert (done.code, len(server.bodies)) == (0, 1), done.err


@pytest.mark.parametrize(
    "words",
    [
        ["check"], ["check", "--mermaid"], ["run", "--show-prompt", TASK],
        ["run", "--show-prompt", "--json", TASK], ["run", TASK],
        ["run", "--diff", f"{KEY}..HEAD", TASK], ["run", "--diff", LONG + KEY, TASK],
        ["run", "--preset", LONG + KEY, TASK], ["run", "--config", KEY, TASK], ["run", "--model", KEY, TASK],
        ["run", "--report", f"{KEY}/x.md", TASK], ["run", "--resume-checkpoint", f"@{KEY}", TASK],
        ["run", "--context", f"fil:{KEY}", TASK], ["check", f"{KEY}.yaml"], ["init", KEY],
        ["auth", "login", KEY], ["hook", "--config", KEY], [KEY], ["run", f"--{KEY}"],
    ],
    ids=lambda words: " ".join(words).replace(KEY, "KEY")[:40],
)  # fmt: skip
def test_no_command_shows_a_key(
    named: Repo, temp: Path, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with suppress(SystemExit):
        main(words)
    captured = capfd.readouterr()
    assert captured.out + captured.err
    assert not shows(captured.out + captured.err)


BROKEN = (
    f"workflow: {{{KEY}\n", f"workflow: x\n{KEY}: 1\n",
    f"workflow: x\nroles: {{a: b}}\nsteps: [{{id: {KEY}, role: {KEY}}}]\n",
    f"workflow: x\nroles: {{a: b}}\nsteps: [{{id: b, role: a, context: ['{LONG}{KEY}']}}]\n",
    f"workflow: x\nroles: {{a: b}}\nsteps: [{{id: b, role: a, backend: '{'y' * 50}{KEY}'}}]\n",
    f"workflow: x # {'z' * 20}{KEY} {LONG}\nroles: [1]\n", f"workflow: !{KEY} x\n", f"workflow: *{KEY}\n",
    f"workflow: x\nroles: {{a: b}}\nmodels: {{a: '{KEY}'}}\nsteps: [{{id: b, role: a}}]\n",
    f"workflow: x\nsteps: {'[' * 60}{KEY}\n", f"{' ' * 40}{KEY}: [\n",
)  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("command", ["check", "run"])
def test_the_quoted_line_of_a_broken_file_shows_no_key(
    project: Repo, capfd: pytest.CaptureFixture[str], content: str, command: str
) -> None:
    project.write(".aethr.yaml", content)
    assert main([command, TASK] if command == "run" else [command]) == 2
    captured = capfd.readouterr()
    assert not shows(captured.out + captured.err), captured.err
    assert ".aethr.yaml:" in captured.err


# --- every field of a record ---------------------------------------------------------------------


def filled(kind: Any) -> Any:
    """A record whose every text is the key."""
    if kind is str:
        return KEY
    receipt = Receipt(KEY, KEY, 1, note=KEY, complete=False, sha256=KEY)
    step = StepResult(
        KEY, KEY, KEY, KEY, 1, KEY, KEY, KEY, context=(receipt,), artifacts=Artifacts((KEY,), KEY, KEY),
        notes=(KEY,), check=CommandCheck(KEY, passed=False, ended=KEY), transport=KEY, cut_prompt=KEY,
    )  # fmt: skip
    return RunResult(
        KEY, KEY, "live", Scope("range", KEY, KEY, KEY, KEY), (step,), (LoopResult(KEY, KEY, 1, "stalled"),),
        Review("revise", (Finding("low", KEY, 1, KEY),), reason=KEY), Totals(), ExitCode.OK, KEY,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_field_of_a_record_is_redacted(suffix: str) -> None:
    result = filled(RunResult)
    assert shows(FORMATS[suffix].render(result))
    redacted = sanitize.redact_record(result, sanitize.Redactor([KEY]).redact)
    assert not shows(repr(redacted))
    assert not shows(FORMATS[suffix].render(redacted))


def test_the_fields_of_every_event_are_known() -> None:
    for kind in get_args(Event):
        sanitize.redact_record(kind(*[KEY] * len(kind._fields)), str.upper)


def test_a_word_of_a_fixed_choice_is_not_redacted() -> None:
    result = filled(RunResult)
    words = sanitize.Redactor(["satisfied", "stalled-", "revise---", "range---", "unstalled"])
    loop = LoopResult("satisfied", "x", 1, "satisfied")
    assert sanitize.redact_record(loop, words.redact) == LoopResult("[redacted]", "x", 1, "satisfied")
    assert sanitize.redact_record(result, words.redact).review.status == "revise"
    assert records.Scope.__annotations__


# --- what is hidden ------------------------------------------------------------------------------


def test_keys_are_hidden_only_within_a_command() -> None:
    assert secrecy.hidden() == ()
    end = secrecy.hide({"A_API_KEY": KEY, "HOME": "/home/somebody"})
    assert secrecy.hidden() == (KEY,)
    secrecy.hide_too(["another-key-0123"])
    assert sanitize.one_line(f"{LONG}{KEY} another-key-0123") == f"{LONG}[redacted] [redacte…"
    end()
    assert secrecy.hidden() == ()
    secrecy.hide_too(["another-key-0123"])
    assert secrecy.hidden() == ()


def test_every_providers_key_is_hidden() -> None:
    assert all(secrecy.holds_key(name) for name in credentials.KEYS)


def test_redactions_in_a_context_are_counted_and_reported(
    aethr: Aethr, named: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(monkeypatch, text(PASS), text(PASS)) as server:
        done = aethr("run", "--json", TASK)
        shown = aethr("run", TASK)
    notes = [receipt["note"] for receipt in done.record["steps"][0]["context"] if receipt["path"] is None]
    assert "the value of a key is replaced by [redacted] in 2 places" in notes
    assert "the value of a key is replaced by [redacted] in" in shown.out + shown.err
    assert not shows(json.dumps(server.bodies[0]["messages"]))


def test_a_foreign_dotenv_hides_no_changed_code(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".env", 'XAI_API_KEY="return sum(prices)"\n')
    project.git("add", "-f", ".env")
    project.git("commit", "-qm", "theirs")
    project.git("rm", "-q", "--cached", ".env")
    with serving(monkeypatch, text(PASS)) as server:
        monkeypatch.delenv("XAI_API_KEY")
        done = aethr("run", "--preset", "review-existing-diff", TASK)
    assert done.code == 0
    assert "+    return sum(prices) + 1" in json.dumps(server.bodies[0])
    assert ".env is not loaded: it is in the last commit" in done.err


def test_a_bug_report_file_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aethr.base import edge

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def fall() -> int:
        raise RuntimeError(f"with {KEY} in it")

    assert edge.guarded(fall) == 70
    (file,) = tmp_path.glob("aethr-bug-*.txt")
    assert "[redacted] in it" in file.read_text()
    assert os.environ["OTHER_API_KEY"] == KEY
