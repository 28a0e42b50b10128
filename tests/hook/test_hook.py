"""``aethr hook``: what it refuses, its exit codes, and every line of its report."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aethr.base.errors import ExitCode
from aethr.base.options import HOOK_OPTIONS, RunOptions
from aethr.base.records import (
    Checkout,
    Estimate,
    Extent,
    Finding,
    ModelSpec,
    Need,
    Plan,
    Receipt,
    Review,
    RunResult,
    RunStarted,
    Scope,
    StepResult,
    Totals,
)
from aethr.cli import main
from aethr.config import workflow_file
from aethr.hook import (
    SHOWN,
    HookChange,
    HookOptions,
    Measure,
    announce,
    bypass_command,
    default_task,
    describe_change,
    find,
    measure,
    report_result,
)
from aethr.output import wording
from aethr.workflow import planning
from aethr.workflow.planning import Project
from tests.live import KEY, PASS, REVISE, TWO_STEPS, serving
from tests.model_server import ModelServer, Reply, error, text
from tests.support import Repo, log_git, outcome_of, surveyed

EDITS_AND_RUNS = """\
workflow: too much
roles: {implementer: "Do it.", reviewer: "Review."}
steps:
  - {id: do, role: implementer, backend: codex, context: ["command:make all"]}
  - id: review
    role: reviewer
    repeat: {back_to: do, until_command_passes: pytest, max_iterations: 2}
"""
PLAIN = """workflow: plain
roles: {reviewer: r}
models: {reviewer: "openai:gpt-5.4-mini"}
steps:
  - {id: look, role: reviewer, context: [git_diff]}
"""
STAGED = Scope("staged", "staged")
Hook = Callable[..., tuple[int, str]]


@pytest.fixture
def project(repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Repo:
    repo.write("app.py", "total = 1\n")
    repo.write("pic.png", b"\x89PNG\0old")
    repo.commit()
    monkeypatch.chdir(repo.root)
    monkeypatch.setenv("PRE_COMMIT", "1")
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    return repo


@pytest.fixture
def hook(project: Repo, capsys: pytest.CaptureFixture[str]) -> Hook:
    def run(*words: str) -> tuple[int, str]:
        project.git("add", "-A")
        code = main(["hook", *words])
        captured = capsys.readouterr()
        assert captured.err == ""
        return code, captured.out

    return run


# --- what it exits with --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words", "code"),
    [
        (text(PASS), [], 0),
        (text(REVISE), [], 1),
        (text(REVISE.replace("high", "medium")), ["--fail-on", "high"], 0),
        (text(REVISE), ["--fail-on", "never"], 0),
        (Reply(chunks=(PASS,), finish_reason="length"), [], 4),
        (Reply(chunks=(PASS,), finish_reason="length"), ["--fail-on", "never"], 4),
        (Reply(chunks=(PASS,), finish_reason="length"), ["--if-not-reviewed=pass"], 0),
        (error(401, "bad key"), ["--if-not-reviewed=pass"], 3),
        (text(PASS), ["--max-tokens", "10"], 5),
    ],
)
def test_exit_codes(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch, answer: Reply, words: list[str], code: int
) -> None:
    project.write("app.py", "total = 2\n")
    with serving(monkeypatch, always=answer):
        found, output = hook(*words)
    assert found == code, output
    last = output.splitlines()[-1]
    assert last.startswith(f"exit code {code}")
    assert ("SKIP=aethr-review git commit" in last) == (code != 0)
    assert KEY not in output


@pytest.mark.parametrize(("name", "code"), [("AETHR_RUN_FAIL_ON", 0), ("AETHR_RUN_IF_NOT_REVIEWED", 0)])
def test_options_from_the_environment(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    project.write("app.py", "total = 2\n")
    answer = text(REVISE) if name == "AETHR_RUN_FAIL_ON" else text("no verdict")
    monkeypatch.setenv(name, "never" if name == "AETHR_RUN_FAIL_ON" else "pass")
    with serving(monkeypatch, always=answer):
        assert hook()[0] == code


def test_the_hook_ignores_a_diff_in_the_environment(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AETHR_RUN_DIFF", "worktree")
    project.write("app.py", "total = 2\n")
    assert hook()[0] == 4


def test_a_missing_key_blocks_the_hook(hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("app.py", "total = 2\n")
    monkeypatch.setenv("AETHR_LIVE", "1")
    code, output = hook()
    assert code == 4
    assert output.startswith("NOT REVIEWED: openai: no key: OPENAI_API_KEY is not set\n")
    assert hook("--if-not-reviewed=pass")[0] == 0


def test_a_key_from_dotenv_is_used(hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(".gitignore", ".env\n")
    project.write("app.py", "total = 2\n")
    with serving(monkeypatch, text(PASS)) as server:
        monkeypatch.delenv("OPENAI_API_KEY")
        monkeypatch.delenv("AETHR_LIVE")
        project.write(".env", f"AETHR_LIVE=1\nOPENAI_API_KEY={KEY}\n")
        assert hook()[0] == 0
    assert server.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"


def test_outside_of_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["hook"]) == 2
    assert "is not in a git repository" in capsys.readouterr().out


def test_the_hook_refuses_agents_and_commands(hook: Hook, project: Repo) -> None:
    project.write(".aethr.yaml", EDITS_AND_RUNS)
    code, output = hook("--if-not-reviewed=pass")
    assert code == 2
    assert re.findall(r"^\.aethr\.yaml:(\d+:\d+): (.*)$", output, re.MULTILINE) == [
        ("4:42", "refused in a hook: 'codex' edits the working tree"),
        ("4:59", "refused in a hook: it runs a command of the project"),
        ("7:49", "refused in a hook: it runs a command of the project"),
    ]


def test_the_printed_command_resumes_the_hooks_run(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/store/py_env/bin/aethr", "hook"])
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, text("An idea."), error(401, "bad key"), text(PASS)) as server:
        code, output = hook()
        assert code == 3
        (command,) = re.findall(r"^  (.*--resume-checkpoint .*)$", output, re.MULTILINE)
        words = shlex.split(command)
        program = words.index("/store/py_env/bin/aethr")
        assert main(words[program + 1 :]) == 0, capsys.readouterr()
    assert len(server.bodies) == 3


# --- changes of one kind -------------------------------------------------------------------------


def test_a_change_of_only_deletions_is_reviewed(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("app.py", "pic.png"):
        (project.root / name).unlink()
    with serving(monkeypatch, text(PASS)) as server:
        code, output = hook()
    assert (code, len(server.bodies)) == (0, 1), output
    assert "Aethr: the staged change: 2 files, +0 -1, only deletions; model: openai:gpt-5.4-mini\n" in output
    assert "-total = 1\n" in server.bodies[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("files", "only"),
    [
        ({"pic.bin": b"\x89PNG\0new"}, ", +0 -0, only binary files"),
        ({".env.local": b"KEY=1\n"}, ", +1 -0, only files that hold secrets"),
        ({"pic.bin": b"\x89PNG\0new", "id_rsa": b"x\n"}, ", +1 -0"),
    ],
)
def test_a_change_no_model_may_see_calls_no_model(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], only: str
) -> None:
    for name, content in files.items():
        project.write(name, content)
    with serving(monkeypatch) as server:
        code, output = hook()
        assert hook("--if-not-reviewed=pass")[0] == 0
    assert (code, server.bodies) == (4, [])
    counted = f"{len(files)} file{'s' if len(files) > 1 else ''}"
    assert output.startswith(f"Aethr: the staged change: {counted}{only}\nNOT REVIEWED: no model may be sent")


def test_a_change_of_only_generated_files_is_reviewed(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("uv.lock", "x\n")
    with serving(monkeypatch, text(PASS)):
        code, output = hook()
    assert code == 0
    assert "1 file, +1 -0, only generated files; model: " in output


# --- how often it asks git -----------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_a_staged_change_takes_at_most_five_calls_of_git(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: bool
) -> None:
    """One says where we are, one measures, one reads; after the review two look if all is as it was."""
    project.write(".aethr.yaml", PLAIN)
    project.commit()
    project.write("app.py", "total = 2\n")
    project.git("add", "-A")
    if named:
        monkeypatch.setenv("GIT_INDEX_FILE", str(project.root / ".git" / "index"))
    calls = log_git(tmp_path, monkeypatch)
    assert main(["hook"]) == 4
    assert calls.read_text().split() == ["rev-parse", "diff", "grep"]
    calls.write_text("")
    with serving(monkeypatch, text(PASS)):
        assert main(["hook"]) == 0
    assert calls.read_text().split() == ["rev-parse", "diff", "rev-parse", "diff"]


def test_a_dotenv_takes_two_calls_of_git_more(
    project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.write(".aethr.yaml", PLAIN)
    project.commit()
    project.write("app.py", "total = 2\n")
    project.git("add", "-A")
    project.write(".env", "AETHR_LIVE=0\n")
    calls = log_git(tmp_path, monkeypatch)
    assert main(["hook"]) == 4
    assert calls.read_text().split() == ["rev-parse", "diff", "ls-files", "cat-file", "grep"]


def test_a_push_takes_six_calls_of_git(
    project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.write(".aethr.yaml", PLAIN)
    project.commit()
    project.write("app.py", "total = 2\n")
    project.commit()
    for name, commit in (("FROM", "HEAD~"), ("TO", "HEAD")):
        monkeypatch.setenv(f"PRE_COMMIT_{name}_REF", project.git("rev-parse", commit).strip())
    calls = log_git(tmp_path, monkeypatch)
    assert main(["hook"]) == 4
    assert calls.read_text().split() == ["rev-parse", "cat-file", "merge-base", "rev-parse", "diff", "grep"]


def measured(project: Repo) -> Measure:
    return measure(surveyed(project.root, STAGED))


def test_text_marked_as_binary_is_still_text(project: Repo) -> None:
    project.write(".gitattributes", "*.py -diff\n")
    project.commit()
    project.write("app.py", "total = 2\n")
    project.git("add", "-A")
    found = measured(project)
    assert (found.extent, found.only, found.unreadable) == (Extent(1), "", frozenset())


@pytest.mark.parametrize("attribute", ["binary", "-diff"])
def test_a_binary_file_marked_as_text_is_still_binary(project: Repo, attribute: str) -> None:
    project.write(".gitattributes", f"*.png {attribute}\n")
    project.commit()
    project.write("pic.png", b"\x89PNG\0new")
    project.git("add", "-A")
    found = measured(project)
    assert (found.extent, found.only) == (Extent(1), "only binary files")
    assert found.unreadable == found.files


def test_a_file_with_secrets_counts_once_as_unreadable(project: Repo) -> None:
    """git lists a file that becomes a link twice, and a renamed one under both names."""
    project.write(".env", "KEY=1\n")
    project.write("id_rsa", "private\n" * 9)
    project.commit()
    (project.root / ".env").unlink()
    (project.root / ".env").symlink_to("elsewhere")
    project.git("mv", "id_rsa", "notes.txt")
    project.git("add", "-A")
    found = measured(project)
    assert (found.extent, found.only) == (Extent(2, 1, 1), "only files that hold secrets")
    assert found.unreadable == found.files


def test_a_binary_file_beside_code_makes_it_incomplete(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("app.py", "total = 2\n")
    project.write("pic.bin", b"\x89PNG\0new")
    with serving(monkeypatch, text(PASS)):
        code, output = hook()
    assert code == 4
    assert "INCOMPLETE (pass on what was sent): not sent: pic.bin (binary)\n" in output
    assert output.count("pic.bin") == 1
    assert "To fix: review less at once, " in output
    assert re.search(r"^about 1 call, [\d,]+ tokens, \$[\d.]+; at most 6 calls, \$", output, re.MULTILINE)


def test_an_index_outside_of_the_repository_is_refused(
    hook: Hook, project: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("app.py", "total = 2\n")
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    code, output = hook()
    assert code == 2
    assert output.startswith("aethr: GIT_INDEX_FILE names an index outside of this repository")


def test_a_workflow_without_the_change_is_not_a_review(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", TWO_STEPS.replace("git_diff", "file:app.py"))
    with serving(monkeypatch) as server:
        code, output = hook()
    assert (code, server.bodies) == (4, [])
    assert output.startswith("NOT REVIEWED: .aethr.yaml: no step sees the change\n")


@contextmanager
def meddling(
    monkeypatch: pytest.MonkeyPatch, meddle: Callable[[], object], answer: str = PASS
) -> Iterator[ModelServer]:
    """A model that passes everything, and somebody who does something else while it answers."""

    def reply(_: object) -> str:
        meddle()
        return answer

    with ModelServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("AETHR_LIVE", "1")
        yield server


def more(project: Repo) -> None:
    project.write("app.py", "total = 3\n")
    project.git("add", "app.py")


def another(project: Repo) -> None:
    project.write("new.py", "nobody saw this\n")
    project.git("add", "new.py")


def less(project: Repo) -> None:
    project.git("reset", "-q")


def mode(project: Repo) -> None:
    project.git("update-index", "--chmod=+x", "app.py")


@pytest.mark.parametrize("meddle", [more, another, less, mode])
def test_an_index_that_changes_meanwhile_is_not_reviewed(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch, meddle: Callable[[Repo], None]
) -> None:
    project.write("app.py", "total = 2\n")
    with meddling(monkeypatch, lambda: meddle(project)):
        code, output = hook()
    assert code == 4, output
    said = "the change that step 'review' read was changed during the run"
    assert f"INCOMPLETE (pass on what was sent): {said}" in output


def test_a_rewritten_index_of_the_same_content_is_reviewed(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touch() -> None:
        (project.root / "app.py").touch()
        project.git("update-index", "--refresh")
        project.write("unstaged.py", "not part of the commit\n")

    project.write("app.py", "total = 2\n")
    with meddling(monkeypatch, touch):
        assert hook()[0] == 0


def test_a_finding_wins_over_an_index_that_changed(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("app.py", "total = 2\n")
    with meddling(monkeypatch, lambda: more(project), REVISE):
        assert hook()[0] == 1


def test_a_push_whose_ref_moved_is_not_reviewed(
    project: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("app.py", "total = 2\n")
    head = project.commit()
    for end, code in (("HEAD", 4), (head, 0)):
        monkeypatch.setenv("PRE_COMMIT_FROM_REF", f"{head}~1")
        monkeypatch.setenv("PRE_COMMIT_TO_REF", end)
        with meddling(monkeypatch, lambda: project.commit("next")):
            assert main(["hook"]) == code, capsys.readouterr()
        project.git("reset", "-q", "--hard", head)


@pytest.mark.parametrize("index", [True, False])
def test_push_variables_are_ignored_in_a_commit(
    project: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], index: bool
) -> None:
    """git gives the hooks of a commit its index; variables of an earlier push may still be set there."""
    project.write("app.py", "total = 2\n")
    head = project.commit()
    project.write("app.py", "total = 3\n")
    project.git("add", "app.py")
    monkeypatch.setenv("PRE_COMMIT_FROM_REF", f"{head}~1")
    monkeypatch.setenv("PRE_COMMIT_TO_REF", head)
    if index:
        monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    main(["hook", "--if-not-reviewed=pass"])
    said = "Aethr: the staged change: 1 file, +1 -1\n" if index else "Aethr: the change "
    assert capsys.readouterr().out.startswith(said)


def test_a_deleted_ref_is_nothing_to_review(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRE_COMMIT_FROM_REF", "HEAD")
    monkeypatch.setenv("PRE_COMMIT_TO_REF", "0" * 40)
    assert hook() == (0, "Aethr: nothing to review: a ref is deleted; no model was called\n")


def test_a_clone_too_shallow_for_the_push_is_an_error(
    project: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.git("checkout", "-q", "-b", "topic")
    project.write("topic.py")
    project.commit()
    project.git("checkout", "-q", "main")
    project.write("main.py")
    project.commit()
    url = project.root.as_uri()
    project.git("clone", "-q", "--depth=1", "--no-single-branch", url, str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    monkeypatch.setenv("PRE_COMMIT_FROM_REF", "origin/topic")
    monkeypatch.setenv("PRE_COMMIT_TO_REF", "HEAD")
    assert main(["hook"]) == 3


# --- lines ---------------------------------------------------------------------------------------


def options(*, lenient: bool = False) -> HookOptions:
    return HookOptions(RunOptions(fail_on="revise"), lenient, "SKIP=aethr-review git commit")


def result(review: Review, code: ExitCode, **more: object) -> RunResult:
    receipts = (Receipt("git_diff", "z.py", 0, 10, None, "over the budget", complete=False),)
    step = StepResult("review", "reviewer", "model", "openai:m", 1, "0" * 64, "prose", context=receipts)
    fields = {"task": "t", "workflow": "w", "mode": "live", "scope": Scope(), "loops": (), **more}
    return RunResult(
        steps=(step,),
        review=review,
        totals=Totals(1, 10, 5, 0.01, 2.0),
        exit_code=code,
        outcome=outcome_of(review),
        **fields,
    )


def test_a_report_has_all_its_lines() -> None:
    findings = (Finding("high", "a b.py", 3, "wrong\x1b[31m"), Finding("low", None, None, "::error::x"))
    review = Review("revise", findings, 0.5, "not sent: z.py (over the budget)")
    made = result(review, ExitCode.GATE, closed="gate closed (--fail-on revise): 1 high finding")
    ended = report_result(made, options())
    assert (ended.code, list(ended.lines)) == (
        1,
        [
            "INCOMPLETE (revise on what was sent): not sent: z.py (over the budget); "
            "1 high and 1 low finding",
            "a b.py:3: [high] wrong\\x1b[31m",
            "[low] ::error::x",
            "1 step, 15 tokens, $0.01, 2.0 s (openai:m)",
            f"To fix: {wording.REMEDY}.",
            "exit code 1: gate closed (--fail-on revise): 1 high finding. "
            "To skip the review: SKIP=aethr-review git commit",
        ],
    )


def test_a_report_counts_findings_beyond_fifty() -> None:
    review = Review("revise", tuple(Finding("low", "a.py", n, "x") for n in range(1, 80)))
    ended = report_result(result(review, ExitCode.GATE), options())
    assert sum("[low]" in line for line in ended.lines) == SHOWN
    assert "and 29 more findings; all are in a report: --report PATH" in ended.lines


def test_a_lenient_report_says_so() -> None:
    ended = report_result(result(Review(reason="cut"), ExitCode.NOT_REVIEWED), options(lenient=True))
    assert ended.code == 0
    assert ended.lines[0] == "NOT REVIEWED: cut"
    assert ended.lines[-1] == "exit code 0 instead of 4, because of --if-not-reviewed=pass"


@pytest.mark.parametrize(
    ("environ", "way"),
    [
        ({"PRE_COMMIT": "1"}, "SKIP=aethr-review git commit"),
        ({"PRE_COMMIT": "1", "PRE_COMMIT_REMOTE_NAME": "origin"}, "SKIP=aethr-review git push"),
        ({"PRE_COMMIT": "1", "PRE_COMMIT_TO_REF": "HEAD"}, "SKIP=aethr-review"),
        ({}, "git commit --no-verify"),
    ],
)
def test_the_bypass_command_fits_the_stage(environ: dict[str, str], way: str) -> None:
    assert bypass_command(environ) == way


def test_no_line_of_a_hook_is_a_runner_command(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("app.py", "total = 2\n")
    finding = "- [high] ::error file=x::app.py:1 — ##[group]x\n- [high] app.py:1 — ::warning::x"
    with serving(monkeypatch, text(f"{finding}\n\nReview status: revise")):
        code, output = hook()
    assert code == 1
    assert not re.search(r"^\s*::|##\[", output, re.MULTILINE)


def test_a_lost_report_file_hides_no_finding(
    hook: Hook, project: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("app.py", "total = 2\n")
    report = tmp_path / "full.md"
    report.symlink_to("/dev/full")
    with serving(monkeypatch, text(PASS)):
        code, output = hook("--report", str(report))
    assert code == 3
    assert "Review status: pass\n" in output
    assert "cannot write the report" in output


@pytest.mark.parametrize(("answer", "said"), [(text(REVISE), "revise"), (text(PASS), "pass")])
def test_an_answer_that_cannot_be_stored_blocks(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch, answer: Reply, said: str
) -> None:
    project.write("app.py", "total = 2\n")
    monkeypatch.setenv("RUNNER_TEMP", "/proc/nowhere")
    with serving(monkeypatch, answer):
        code, output = hook()
    assert code == 3
    assert "cannot write a checkpoint" in output
    assert f"The last answer could not be kept. It said: {said}\n" in output
    assert ("app.py:2: [high] the total is off by one" in output) == (said == "revise")


def test_the_hook_has_a_default_task(hook: Hook, project: Repo, tmp_path: Path) -> None:
    project.write("app.py", "total = 2\n")
    for words, task in (
        ([], default_task(HookChange(STAGED, Checkout(project.root, project.root), "", "main"))),
        (["--task", "Only SQL."], "Only SQL."),
    ):
        hook("--report", str(tmp_path / "record.json"), *words)
        assert json.loads((tmp_path / "record.json").read_text())["task"] == task


def test_the_first_lines_come_before_the_call(project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("app.py", "total = 2\n")
    project.git("add", "-A")
    gate = threading.Event()
    with serving(monkeypatch, Reply(chunks=(PASS,), gate=gate)) as server:
        words = [sys.executable, "-m", "aethr", "hook"]
        with subprocess.Popen(words, cwd=project.root, stdout=subprocess.PIPE, text=True) as running:
            server.wait_for(1)  # its answer waits for the gate
            assert running.stdout is not None
            seen = [running.stdout.readline() for _ in range(3)]
            gate.set()
            rest = running.stdout.read()
    assert seen[0].startswith("note: openai: calls go to http://127.0.0.1")
    assert seen[1] == "Aethr: the staged change: 1 file, +1 -1; model: openai:gpt-5.4-mini\n"
    assert seen[2].startswith("about 1 call, ")
    assert rest.startswith("Review status: pass\n")


def test_the_first_line_names_each_model_once() -> None:
    named = [ModelSpec("openai:a"), ModelSpec("anthropic:b\x1b[31m"), ModelSpec("openai:a"), None]
    started = RunStarted("w", "t", "live", 4)
    assert announce(started, plan_of(*named), "Aethr: 1 file", ["a\nb"]).lines == (
        "note: a\\nb",
        "Aethr: 1 file; models: openai:a, anthropic:b\\x1b[31m",
    )
    assert announce(started, plan_of(*named)._replace(mode="mock"), "Aethr", ()).lines == ("Aethr",)


def plan_of(*models: ModelSpec | None) -> Plan:
    """A live plan with a step for each model."""
    roles = "\n".join(f"  - {{id: s{number}, role: r}}" for number, _ in enumerate(models))
    spec = workflow_file.parse(
        f"workflow: w\nroles: {{r: Do.}}\nsteps:\n{roles}\n", "w", planning.vocabulary()
    )
    bound = planning.bind(Project(Path(), spec), planning.read_terms(RunOptions(), {}, ()), {})
    made = planning.plan(bound, "t", STAGED)
    steps = tuple(step._replace(model=model) for step, model in zip(made.steps, models, strict=True))
    return made._replace(steps=steps, mode="live")


@pytest.mark.parametrize(
    ("live", "words", "code", "calls"),
    [
        ("0", ["--live"], 0, 1),
        ("1", ["--mock"], 4, 0),
        ("1", ["--mock", "--fail-on", "never"], 4, 0),
        ("1", ["--mock", "--if-not-reviewed=pass"], 0, 0),
    ],
)
def test_live_and_mock_in_a_hook(
    hook: Hook,
    project: Repo,
    monkeypatch: pytest.MonkeyPatch,
    live: str,
    words: list[str],
    code: int,
    calls: int,
) -> None:
    """A mock never lets a commit pass, whoever asks for it."""
    project.write("app.py", "total = 2\n")
    with serving(monkeypatch, text(PASS)) as server:
        monkeypatch.setenv("AETHR_LIVE", live)
        done, output = hook(*words)
    assert (done, len(server.bodies)) == (code, calls), output
    assert ("NOT REVIEWED: mock mode" in output) == (not calls)


# --- its page ------------------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent.parent / "docs" / "hook.md"


def test_the_page_names_every_option() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [option.flag for option in HOOK_OPTIONS if f"`{option.flag}`" not in page] == []


def test_the_page_shows_the_printed_lines() -> None:
    found = Review("revise", (Finding("high", "app.py", 2, "the total is off by one", id="56847459c67e"),))
    step = StepResult("review", "reviewer", "model", "openai:gpt-5.4-mini", 1, "0" * 64, "prose")
    said = result(found, ExitCode.GATE)._replace(steps=(step,), totals=Totals(1, 1800, 40, 0.0031, 6.2))
    about = Need("openai:gpt-5.4-mini", None, 1, 668, 4096, 0.0189)
    estimate = Estimate((about,), (about._replace(calls=6, cost_usd=0.94),))
    said = said._replace(closed="gate closed (--fail-on revise): 1 high finding")
    found = HookChange(STAGED, Checkout(Path(), Path()), "the staged change")
    head = describe_change(found, Measure(Extent(1, 1, 1)))
    step_plan = plan_of(ModelSpec("openai:gpt-5.4-mini"))
    started = RunStarted("review-existing-diff", "t", "live", 1, estimate=estimate)
    lines = (*announce(started, step_plan, head, ()).lines, *report_result(said, options()).lines)
    assert "```text\n" + "\n".join(lines) + "\n```" in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("named", ["options", "environment"])
def test_a_repository_outside_of_the_folder_that_it_tracks(
    project: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """A real commit to it, from a folder below, with Aethr as its hook: ``git --git-dir=~/.dotfiles …``."""
    folder = tmp_path / "dotfiles"
    (project.root / ".git").rename(folder)
    script = folder / "hooks" / "pre-commit"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aethr hook\n')
    script.chmod(0o755)
    monkeypatch.delenv("PRE_COMMIT")
    below = project.root / "below"
    below.mkdir()
    places = [f"--git-dir={folder}", f"--work-tree={project.root}"]
    if named == "environment":
        monkeypatch.setenv("GIT_DIR", str(folder))
        monkeypatch.setenv("GIT_WORK_TREE", "..")
        places = []
    project.write("app.py", "total = 2\n")
    with serving(monkeypatch, text(REVISE), text(PASS)) as server:
        for code in (1, 0):
            words = ["git", *places, "commit", "-qam", "through the hook"]
            done = subprocess.run(words, cwd=below, capture_output=True, text=True, check=False)
            assert done.returncode == code, done.stderr
    assert all("+total = 2" in json.dumps(body) for body in server.bodies)


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("logo.png", b"\x89PNG\0new", "logo.png"),
        ("package-lock.json", b"line\n" * 40_000, "package-lock.json (+40,000 -0)"),
        ("a.min.js", b"run();" * 100_000, "a.min.js (+1 -0)"),
    ],
)
def test_what_is_excluded_blocks_nothing_and_is_named(
    hook: Hook, project: Repo, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, shown: str
) -> None:
    project.write(name, content)
    with serving(monkeypatch, text(PASS)) as server:
        code, output = hook()
        assert (code, server.bodies) == (0, []), output
        assert f"Nothing to review: all of the change is excluded by rule: {shown}\n" in output
        project.write("app.py", "total = 2\n")
        code, output = hook()
    assert (code, len(server.bodies)) == (0, 1), output
    assert f"Review status: pass; excluded by rule: {shown}\n" in output


def test_a_push_is_excluded_by_the_remotes_old_tip(project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(".gitattributes", "app.py linguist-generated\n")
    old = project.commit()
    (project.root / ".gitattributes").unlink()
    project.write("app.py", "total = 2\n")
    new = project.commit()
    found = find(project.root, {"PRE_COMMIT_FROM_REF": old, "PRE_COMMIT_TO_REF": new})
    assert found is not None
    assert found.scope.base_side == old
