"""``--replies`` tests a workflow: its loops and its gate are real, but the run is not a review."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.support import Repo, aethr

FLOW = """\
workflow: flow
roles: {writer: "Write.", reviewer: "Review."}
steps:
  - {id: write, role: writer, backend: opencode}
  - id: review
    role: reviewer
    context: [latest_diff]
    repeat: {back_to: write, until_review_pass: true, until_command_passes: "touch ran", max_iterations: 3}
"""
HIGH = "- [high] app.py:1 — wrong\\n\\nReview status: revise"
OTHER = "- [low] app.py:2 — a remark\\n\\nReview status: revise"
PASS = "Review status: pass"


@pytest.fixture
def project(repo: Repo) -> Repo:
    repo.write(".aethr.yaml", FLOW)
    repo.write("app.py", "x = 1\n")
    repo.commit("start")
    repo.write("app.py", "x = 2\n")
    return repo


def script(project: Repo, *reviews: str, writes: str = "") -> None:
    """``replies.yaml`` with these reviews and as many answers of the writer, or ``writes`` (YAML)."""
    written = writes or json.dumps([f"Draft {number}." for number, _ in enumerate(reviews, start=1)])
    listed = "".join(f'  - "{review}"\n' for review in reviews)
    project.write("replies.yaml", f"write: {written}\nreview:\n{listed}")


def run(project: Repo, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return aethr("run", "--replies", "replies.yaml", *words, "do it", cwd=project.root, env=env)


def loop(done: subprocess.CompletedProcess[str]) -> tuple[str, int]:
    (found,) = json.loads(done.stdout)["loops"]
    return found["outcome"], found["iterations"]


# --- what a script decides ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reviews", "gate", "code", "outcome"),
    [
        ([HIGH, HIGH, PASS], [], 0, ("satisfied", 3)),
        ([HIGH, HIGH, PASS], ["--fail-on", "low"], 0, ("satisfied", 3)),
        ([PASS], ["--fail-on", "revise"], 0, ("satisfied", 1)),
        ([HIGH, HIGH, HIGH], [], 0, ("exhausted", 3)),
        ([HIGH, HIGH, HIGH], ["--fail-on", "high"], 1, ("exhausted", 3)),
        (["no verdict", "none", "still none"], ["--fail-on", "high"], 1, ("exhausted", 3)),
    ],
)
def test_scripted_loops_and_gate_are_real(
    project: Repo, reviews: list[str], gate: list[str], code: int, outcome: tuple[str, int]
) -> None:
    script(project, *reviews)
    done = run(project, "--json", *gate)
    assert (done.returncode, loop(done)) == (code, outcome), done.stderr
    assert json.loads(done.stdout)["exit_code"] == code


def test_a_scripted_agent_without_changes_stalls_the_loop(project: Repo) -> None:
    nothing = '["Draft.", {answer: "I changed nothing.", changed: []}]'
    script(project, HIGH, writes=nothing)
    done = run(project, "--json")
    assert (done.returncode, loop(done)) == (0, ("stalled", 2)), done.stderr
    record = json.loads(done.stdout)
    assert record["skipped"] == [{"step": "review", "iteration": 2, "reason": "step write changed nothing"}]
    assert [found["severity"] for found in record["review"]["findings"]] == ["high"]


def test_later_steps_see_scripted_answers_and_files(project: Repo) -> None:
    script(project, PASS, writes='[{answer: "Drafted {braces}.", changed: [a.py, "b {0}.py"]}]')
    record = json.loads(run(project, "--json", "--fail-on", "high").stdout)
    assert record["steps"][0]["content"] == "Drafted {braces}."
    assert record["steps"][0]["artifacts"]["changed_files"] == ["a.py", "b {0}.py"]
    assert [each["path"] for each in record["steps"][1]["context"]] == ["a.py", "b {0}.py"]
    assert record["review"]["coverage"] == 1.0


def test_a_scripted_run_runs_and_edits_nothing(project: Repo, tmp_path: Path) -> None:
    script(project, HIGH, PASS, writes='[{answer: "x", changed: [app.py]}, y]')
    before = project.git("status", "--porcelain")
    temp = tmp_path / "temp"
    temp.mkdir()
    assert run(project, env={"TMPDIR": str(temp)}).returncode == 0
    assert project.git("status", "--porcelain") == before
    assert (project.root / "app.py").read_text() == "x = 2\n"
    assert list(temp.iterdir()) == []


def test_a_scripted_run_imports_nothing_heavy(project: Repo) -> None:
    script(project, PASS)
    code = (
        "import sys; from aethr.cli import main\n"
        "main(['run', '--replies', 'replies.yaml', 'x'])\n"
        "sys.exit(str({'litellm', 'httpx', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "set()"


# --- it is not a review ------------------------------------------------------------------------


def test_every_output_says_that_it_is_scripted(project: Repo, tmp_path: Path) -> None:
    script(project, HIGH, PASS)
    paths = {suffix: tmp_path / f"out.{suffix}" for suffix in ("md", "json", "sarif", "txt")}
    words = [word for path in paths.values() for word in ("--report", str(path))]
    done = run(project, "--fail-on", "high", *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "note: scripted answers: no model is called, and this is not a review"
    assert [line for line in lines if line.startswith("== ") and "scripted" not in line] == []
    assert lines[-1] == "NOT REVIEWED: scripted answers: no model was called (they say: pass)"
    assert all("scripted" in path.read_text() for path in paths.values())
    assert "NOT REVIEWED" in paths["md"].read_text()
    assert "NOT REVIEWED" in paths["txt"].read_text()
    record = json.loads(paths["json"].read_text())
    assert (record["mode"], record["review"]["status"]) == ("scripted", "pass")
    assert record["review"]["reason"] == "scripted answers: no model was called"
    assert {step["transport"] for step in record["steps"]} == {"scripted"}
    sarif = json.loads(paths["sarif"].read_text())
    jsonschema.validate(sarif, json.loads(Path("tests/data/sarif-2.1.0-rtm.5.json").read_text()))
    (ran,) = sarif["runs"]
    assert (ran["results"], ran["invocations"][0]["executionSuccessful"]) == ([], False)


def test_a_quiet_run_says_that_it_is_scripted(project: Repo) -> None:
    script(project, PASS)
    lines = run(project, "-q").stdout.splitlines()
    assert ("scripted" in lines[0], lines[-1].startswith("NOT REVIEWED: ")) == (True, True)


def test_a_scripted_run_without_a_reviewer_is_not_reviewed(project: Repo) -> None:
    project.write("replies.yaml", "a: [Done.]\n")
    done = run(project, "--step", "a:Go.")
    assert (done.returncode, done.stdout.splitlines()[-1].startswith("NOT REVIEWED: ")) == (0, True)


@pytest.mark.parametrize(
    ("words", "env", "code", "said"),
    [
        (["--require-review"], {}, 4, "the answers of --replies are not a review"),
        ([], {"AETHR_RUN_REQUIRE_REVIEW": "1"}, 4, "the answers of --replies are not a review"),
        ([], {"AETHR_LIVE": "1"}, 2, "and AETHR_LIVE=1 asks for real ones"),
        (["--model", "openai:x"], {}, 2, "and the model openai:x asks for real ones"),
        ([], {"AETHR_MODEL": "openai:x"}, 2, "and the model openai:x asks for real ones"),
        (["--show-prompt"], {}, 2, "--replies and --show-prompt exclude each other"),
    ],
)
def test_replies_refuse_a_live_run_and_a_required_review(
    project: Repo, words: list[str], env: dict[str, str], code: int, said: str
) -> None:
    script(project, PASS)
    done = run(project, *words, env=env)
    assert (done.returncode, done.stdout, said in done.stderr) == (code, "", True), done.stderr


def test_a_scripted_run_may_name_a_model(project: Repo) -> None:
    script(project, PASS)
    env = {"AETHR_MODEL": "openai:x", "AETHR_LIVE": "0"}
    assert json.loads(run(project, "--json", env=env).stdout)["steps"][0]["model"] == "openai:x"


def test_the_hook_does_not_take_replies(project: Repo) -> None:
    project.write("replies.yaml", "review: [Review status: pass]\n")
    project.git("add", "app.py")
    env = {"AETHR_RUN_REPLIES": "replies.yaml"}
    done = aethr("hook", "--preset", "review-existing-diff", cwd=project.root, env=env)
    assert (done.returncode, "mock mode" in done.stdout) == (4, True)
    assert aethr("hook", "--replies", "replies.yaml", cwd=project.root).returncode == 2


# --- a script that does not fit ----------------------------------------------------------------


def test_a_run_resumes_after_a_missing_reply_is_added(project: Repo) -> None:
    script(project, HIGH, HIGH, writes='["1", "2", "3"]')
    done = run(project, "--fail-on", "high")
    assert done.returncode == 2
    assert "replies.yaml:4:5: no answer for pass 3 of the step 'review': it has 2" in done.stderr
    script(project, HIGH, HIGH, PASS)
    resume = shlex.split(re.findall(r"^  .*--resume-checkpoint.*$", done.stderr, re.MULTILINE)[0])
    again = aethr(*resume[resume.index("run") :], "--json", cwd=project.root)
    assert (again.returncode, loop(again)) == (0, ("satisfied", 3)), again.stderr
    assert "--replies" in resume


def test_a_scripted_run_of_a_live_project_resumes_scripted(project: Repo) -> None:
    project.write(".env", "AETHR_LIVE=1\n")
    script(project, HIGH, writes='["1", "2"]')
    done = run(project, env={"AETHR_LIVE": "0"})
    assert done.returncode == 2
    command = re.findall(r"^  (.*--resume-checkpoint.*)$", done.stderr, re.MULTILINE)[0]
    assert command.startswith("AETHR_LIVE=0 ")


def test_a_scripted_checkpoint_fits_no_other_run(project: Repo) -> None:
    script(project, HIGH, writes='["1", "2"]')
    found = re.search(r"--resume-checkpoint (\S+)", run(project).stderr)
    assert found
    done = aethr("run", "--resume-checkpoint", found[1], cwd=project.root)
    assert done.returncode == 2
    assert "the checkpoint is of a scripted run, and this one is mock" in done.stderr
    assert "--replies" in done.stderr


def test_unused_replies_fail_the_run(project: Repo) -> None:
    script(project, PASS, HIGH, writes='["1"]')
    done = run(project, "--json")
    assert (done.returncode, json.loads(done.stdout)["exit_code"]) == (2, 2)
    assert "replies.yaml:4:5: 2 for the step 'review', and the run ended after 1" in done.stderr


def test_replies_without_a_change_are_unused(project: Repo) -> None:
    project.write("replies.yaml", "review: ['Review status: pass']\n")
    project.git("checkout", "app.py")
    project.commit()
    done = run(project, "--preset", "review-existing-diff", "--fail-on", "high")
    assert (done.returncode, "there was nothing to read, so it was not called" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "wriet: [x]\nreview: [y]\n",
            ["1:1: no answers for the step 'write'", "1:1: no step 'wriet' (did you mean 'write'?)"],
        ),
        ("- x\n", ["1:1: expected a mapping, got a list"]),
        ("write: x\nreview: [y]\n", ["1:8: expected a list, got the text 'x'"]),
        (
            "write: []\nreview: [1]\n",
            [
                "1:8: needs at least one answer",
                "2:10: expected an answer as text, got the number '1'; put it in quotes",
            ],
        ),
        (
            "write: [{answr: x}]\nreview: [{answer: y, changed: [a]}]\n",
            [
                "1:9: an answer needs the key 'answer'",
                "1:10: unknown key 'answr' (did you mean 'answer'?)",
                "2:22: the step 'review' changes no files: no agent runs it",
            ],
        ),
        ("write: [x]\nwrite: [y]\nreview: [z]\n", ["2:1: duplicate key 'write', first on line 1"]),
        ("write: [x\n", ["1:8: opened here and never closed"]),
        ("", ["1:1: the file is empty"]),
    ],
)
def test_all_mistakes_in_replies_are_shown_with_their_place(
    project: Repo, text: str, said: list[str]
) -> None:
    project.write("replies.yaml", text)
    done = run(project)
    assert (done.returncode, done.stdout) == (2, "")
    found = re.findall(r"^replies\.yaml:(\d+:\d+: .*)$", done.stderr, re.MULTILINE)
    assert found == said


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_a_replies_file_that_cannot_be_read_is_refused(project: Repo, name: str) -> None:
    done = aethr("run", "--replies", name, "do it", cwd=project.root)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
