"""Live runs through the real command line against a server on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aethr.base.providers import ANSWER_LIMIT
from aethr.review.identity import place_id
from tests.live import (
    KEY,
    PASS,
    REVISE,
    TASK,
    TWO_STEPS,
    Aethr,
    aethr,
    project,
    resume_line,
    resume_words,
    serving,
    temp,
    transport,
)
from tests.model_server import ModelServer, Reply, error, text
from tests.support import Repo

__all__ = ["aethr", "project", "temp", "transport"]

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))

LOOP = """\
workflow: loop
roles: {thinker: "Think.", reviewer: "Review."}
models: {thinker: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini"}
steps:
  - {id: think, role: thinker}
  - id: review
    role: reviewer
    repeat: {back_to: think, until_review_pass: true, max_iterations: 3}
"""


def review(*words: str) -> list[str]:
    return ["run", "--preset", "review-existing-diff", *words, TASK]


def test_endless_thinking_is_no_answer_but_counted(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        ".aethr.yaml",
        'workflow: w\nroles: {thinker: "Think."}\nmodels: {thinker: "openai:gpt-4o-mini"}\n'
        "steps:\n  - {id: think, role: thinker}\n",
    )
    with serving(monkeypatch, text("<think>\nand on\n")):
        done = aethr("run", "--json", TASK)
    assert done.code == 3
    assert "all of it was thinking" in done.err
    totals = done.record["totals"]
    assert (totals["prompt_tokens"], totals["completion_tokens"]) == (10, 5)


@pytest.mark.parametrize("artifacts", ["{}", '{"changed_files": ["app.py"], "git_diff": "+x"}'])
def test_a_hand_written_checkpoint_is_not_a_review(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, artifacts: str
) -> None:
    seed = f'[{{"step_id": "review", "content": "Review status: pass", "artifacts": {artifacts}}}]'
    with serving(monkeypatch) as server:
        gated = aethr(*review("--fail-on", "high", "--resume-checkpoint", seed))
        free = aethr(*review("--resume-checkpoint", seed))
    assert (gated.code, free.code, server.requests) == (4, 0, [])
    assert "does not prove a review" in gated.err


@pytest.mark.usefixtures("transport")
def test_a_review_that_passes(aethr: Aethr, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr(*review("--fail-on", "high", "--json", "--model", "openai:gpt-4o-mini"))
    assert done.code == 0, done.err
    assert done.record["review"] == {
        "status": "pass",
        "findings": [],
        "coverage": 1.0,
        "reason": None,
        "unexplained": False,
        "unused": [],
        "resolved": [],
    }
    assert done.record["mode"] == "live"
    assert done.record["steps"][0]["transport"] == os.environ["AETHR_TRANSPORT"]
    assert done.record["totals"]["prompt_tokens"] == 10
    assert done.record["totals"]["cost_usd"] > 0
    assert server.bodies[0]["messages"][0]["content"].endswith("Pass means: no high and no medium finding.\n")
    assert KEY not in done.out + done.err
    assert f"{server.origin}" in done.err
    assert list(temp.iterdir()) == []


@pytest.mark.parametrize(
    ("gate", "code"), [([], 0), (["--fail-on", "high"], 1), (["--fail-on", "revise"], 1)]
)
@pytest.mark.usefixtures("transport")
def test_a_review_that_says_revise(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, gate: list[str], code: int
) -> None:
    with serving(monkeypatch, text(REVISE)):
        done = aethr(*review(*gate, "--json"))
    assert done.code == code, done.err
    assert done.record["exit_code"] == code
    assert done.record["review"]["findings"] == [
        {
            "severity": "high",
            "path": "app.py",
            "line": 2,
            "message": "the total is off by one",
            "place": "change",
            "end_line": None,
            "by": ["review"],
            "id": place_id("app.py", ["def total(prices):", "    return sum(prices) + 1"], 2),
            "state": None,
            "evidence": None,
            "suggestion": None,
            "check": None,
            "also": [],
            "answer": None,
            "ids": [],
        }
    ]


@pytest.mark.parametrize("preset", ["review-existing-diff", "docs-sync", "custom"])
def test_each_preset_without_an_agent(aethr: Aethr, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    with serving(monkeypatch, always=text(PASS)):
        done = aethr("run", "--preset", preset, "--fail-on", "high", TASK)
    assert done.code == 0, done.err
    assert "Review status: pass" in done.out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("way", [pytest.param("litellm", marks=pytest.mark.slow), "auto"])
def test_each_example(aethr: Aethr, monkeypatch: pytest.MonkeyPatch, example: Path, way: str) -> None:
    monkeypatch.setenv("AETHR_TRANSPORT", way)
    with serving(monkeypatch, always=text(PASS)) as server:
        # The project is the folder of the workflow file, so the example is copied into it.
        Path(".aethr.yaml").write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
        done = aethr("run", "--json", TASK)
    assert done.code == 0, done.err
    models = [step["model"] for step in done.record["steps"]]
    assert len(server.bodies) == len(models)
    assert [body["model"] for body in server.bodies] == [model.split(":", 1)[1] for model in models]
    limits = {body.get("max_tokens", body.get("max_completion_tokens")) for body in server.bodies}
    assert limits == {ANSWER_LIMIT}


@pytest.mark.usefixtures("transport")
def test_a_cut_answer_is_not_a_review(aethr: Aethr, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, Reply(chunks=(PASS,), finish_reason="length")):
        done = aethr(*review("--require-review", "--json"))
    assert done.code == 4
    assert done.record["steps"][0]["truncated"] is True
    assert done.record["review"]["status"] == "none"


@pytest.mark.usefixtures("transport")
def test_a_missing_verdict_is_asked_for_once_more(aethr: Aethr, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, text("It looks fine."), text("Review status: pass")) as server:
        done = aethr(*review("--fail-on", "high", "--json"))
    assert (done.code, done.record["totals"]["calls"], len(server.bodies)) == (0, 2, 2)


def test_a_line_that_fits_no_prompt_does_not_pass(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("app.py", f"noise = '{'x' * 200_000}'\n")
    project.write("z.py", "eval(input())\n")
    project.git("add", "-N", "z.py")
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr(*review("--fail-on", "high"))
    assert done.code == 4
    assert "app.py" in done.err + done.out
    sent = server.bodies[0]["messages"][0]["content"]
    assert "eval(input())" in sent
    assert "[app.py: 1 of 2 hunks not sent, 1 changed line, larger than the budget" in sent


@pytest.mark.usefixtures("transport")
def test_a_failing_server_is_exit_3_with_a_resume_command(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, text("An idea."), error(401, "bad key")) as server:
        failed = aethr("run", "--fail-on", "high", TASK)
        assert (failed.code, len(server.bodies)) == (3, 2)
    assert "Traceback" not in failed.err
    assert KEY not in failed.out + failed.err
    (checkpoint,) = temp.iterdir()
    assert KEY not in checkpoint.read_text()
    assert f"AETHR_TRANSPORT={os.environ['AETHR_TRANSPORT']} " in resume_line(failed.err)
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr(*resume_words(failed.err))
    assert (done.code, len(server.bodies)) == (0, 1)
    assert "An idea." in server.bodies[0]["messages"][0]["content"]
    assert list(temp.iterdir()) == []


def test_the_record_of_a_failed_run_says_so(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    report = tmp_path / "out.md"
    with serving(monkeypatch, text("An idea."), error(404, "no such model")):
        failed = aethr("run", "--json", "--report", str(report), TASK)
    assert failed.record["exit_code"] == failed.code == 3
    assert [step["id"] for step in failed.record["steps"]] == ["think"]
    assert failed.record["review"]["status"] == "none"
    assert Path(failed.record["checkpoint"]).is_file()
    assert "no such model" in report.read_text()


def test_a_run_resumes_after_a_model_name_is_fixed(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, text("An idea."), error(404, "no such model")):
        failed = aethr("run", TASK)
    project.write(
        ".aethr.yaml", TWO_STEPS.replace('reviewer: "openai:gpt-4o-mini"', "reviewer: openai:gpt-4o")
    )
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr(*resume_words(failed.err))
    assert (done.code, server.bodies[0]["model"]) == (0, "gpt-4o")


def test_a_resume_keeps_the_pass_count_of_a_loop(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", LOOP)
    with serving(monkeypatch, "one", REVISE, "two", error(400, "no")):
        failed = aethr("run", TASK)
    assert failed.code == 3
    with serving(monkeypatch, REVISE.replace("off", "way off"), "three", REVISE) as server:
        done = aethr(*resume_words(failed.err), "--json")
    assert len(server.bodies) == 3
    assert [(step["id"], step["iteration"]) for step in done.record["steps"]] == [
        (step, n) for n in (1, 2, 3) for step in ("think", "review")
    ]
    assert done.record["loops"] == [
        {"step": "review", "back_to": "think", "iterations": 3, "outcome": "exhausted"}
    ]


def test_over_budget_stops_before_the_call(aethr: Aethr, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, text(PASS)) as server:
        for words in (["--max-tokens", "100"], ["--max-cost", "0.000001"]):
            done = aethr(*review(*words, "--model", "openai:gpt-4o-mini"))
            assert done.code == 5
            assert done.err.startswith("note: openai: calls go to ")
        assert server.bodies == []
    assert len(list(temp.iterdir())) == 2


def test_an_unwritable_report_is_exit_3_after_the_answer(
    aethr: Aethr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "full.md"
    report.symlink_to("/dev/full")
    with serving(monkeypatch, text(PASS)):
        done = aethr(*review("--report", str(report)))
    assert (done.code, "Looks right." in done.out) == (3, True)
    assert "cannot write the report" in done.err


@pytest.mark.parametrize("variable", ["AETHR_MODEL", "--model"])
def test_one_model_for_every_step(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    words = ["run", TASK]
    with serving(monkeypatch, "one", PASS) as server:
        monkeypatch.delenv("AETHR_LIVE")
        if variable == "AETHR_MODEL":
            monkeypatch.setenv("AETHR_MODEL", "xai/grok-4")
        else:
            words[1:1] = ["--model", "xai/grok-4"]
        done = aethr(*words)
    assert (done.code, [body["model"] for body in server.bodies]) == (0, ["grok-4", "grok-4"])


@pytest.mark.usefixtures("transport")
def test_ctrl_c_is_130_within_two_seconds_and_the_run_resumes(
    project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    stalls = Reply(chunks=("Hm",), fault="stall")
    with serving(monkeypatch, text("An idea."), stalls, text(PASS)) as server:
        code, stderr = interrupt(signal.SIGINT, server)
        assert code == 130
        assert "Traceback" not in stderr
        done = subprocess.run(
            ["bash", "-c", resume_line(stderr)],
            cwd=project.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, len(server.bodies)) == (0, 3), done.stderr


@pytest.mark.usefixtures("transport")
def test_sigterm_is_143_with_a_checkpoint(project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, text("An idea."), Reply(fault="never")) as server:
        code, stderr = interrupt(signal.SIGTERM, server)
    assert code == 143
    head, step, failure = map(json.loads, next(temp.iterdir()).read_text().splitlines())
    assert (head["task"], step["step"]["id"], failure["failure"]["step"]) == (TASK, "think", "review")
    assert resume_line(stderr)


def interrupt(number: signal.Signals, server: ModelServer) -> tuple[int, str]:
    """Start a run in its own process; signal it during the second call."""
    with subprocess.Popen(
        [sys.executable, "-m", "aethr", "run", TASK],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        server.wait_for(2)
        child.send_signal(number)
        _, stderr = child.communicate(timeout=2.5)
    return child.returncode, stderr


def test_a_refused_resume_does_not_change_the_checkpoint(
    aethr: Aethr, project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, text("An idea."), error(401, "bad key")):
        failed = aethr("run", TASK)
    (checkpoint,) = temp.iterdir()
    before = checkpoint.read_bytes()
    swapped = TWO_STEPS.splitlines()
    project.write(".aethr.yaml", "\n".join([*swapped[:-2], swapped[-1], swapped[-2]]) + "\n")
    with serving(monkeypatch) as server:
        done = aethr(*resume_words(failed.err))
        assert (done.code, server.bodies) == (2, [])
    assert "it has step 'think' (pass 1) where 'review' (pass 1) comes next" in done.err
    assert checkpoint.read_bytes().splitlines()[:2] == before.splitlines()[:2]


def test_verbose_prints_a_checkpoint_that_resumes(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, text("An idea."), error(401, "bad key")):
        failed = aethr("run", "-v", TASK)
    printed = re.search(r"(^\{.*\}\n)+", failed.err, re.MULTILINE)
    assert printed
    assert "Traceback" in failed.err
    with serving(monkeypatch, text(PASS)) as server:
        done = aethr("run", "--resume-checkpoint", printed[0])
    assert (done.code, len(server.bodies)) == (0, 1), done.err


def test_a_missing_key_is_reported_before_an_editor_opens(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AETHR_LIVE", "1")
    monkeypatch.setenv("EDITOR", f"touch {tmp_path / 'opened'}")
    done = aethr("run", "--preset", "review-existing-diff")
    assert (done.code, "OPENAI_API_KEY" in done.err) == (2, True)
    assert not (tmp_path / "opened").exists()


def test_a_direct_run_on_a_pipe_imports_nothing_heavy(project: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "aethr", *review("--stream")]
    with serving(monkeypatch, text(PASS)):
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    modules = re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE)
    packages = {module.partition(".")[0] for module in modules}
    assert {"aethr", "httpx"} <= packages
    assert not {"litellm", "openai", "pydantic", "rich", "click", "h2", "dotenv", "asyncio"} & packages


# --- --save ------------------------------------------------------------------------------------


def test_a_resumed_run_is_saved_and_calls_the_same_again(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        "--step",
        "thinker:Think: hard # really",
        "--step",
        "reviewer:Be strict.",
        "--context",
        "git_diff",
    ]
    file = project.root / ".aethr.yaml"
    with serving(monkeypatch, text("An idea."), error(401, "bad key")):
        failed = aethr("run", *steps, "--model", "openai:gpt-4o-mini", "--save", TASK)
    assert (failed.code, file.exists()) == (3, False)
    with serving(monkeypatch, text(PASS)) as server:
        resumed = aethr(*resume_words(failed.err), "--json")
    assert (resumed.code, len(server.bodies), file.exists()) == (0, 1, True), resumed.err
    with serving(monkeypatch, text("An idea."), text(PASS)):
        again = aethr("run", "--json", TASK)
    told = [
        [(step["prompt_sha256"], step["model"]) for step in done.record["steps"]] for done in (resumed, again)
    ]
    assert told[0] == told[1]


def test_a_key_in_a_step_is_not_printed_or_kept(
    aethr: Aethr, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        "--step",
        f"thinker:Use {KEY}.",
        "--step",
        "reviewer:Be strict.",
        "--model",
        "openai:gpt-4o-mini",
    ]
    with serving(monkeypatch, text("An idea."), error(401, "bad key")):
        failed = aethr("run", *steps, TASK)
    assert (failed.code, KEY in failed.out + failed.err) == (3, False)
    assert [path.name for path in temp.iterdir() if KEY in path.read_text()] == []
    with serving(monkeypatch, text(PASS)) as server:
        assert aethr(*resume_words(failed.err)).code == 0
    assert len(server.bodies) == 1


def test_a_closed_gate_is_a_completed_run_and_saves(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(monkeypatch, text(REVISE)):
        done = aethr(*review("--fail-on", "high", "--save"))
    assert (done.code, (project.root / ".aethr.yaml").exists()) == (1, True), done.err


# --- the tree moves while a review is made -------------------------------------------------------


def edit(project: Repo) -> None:
    project.write("app.py", "def total(prices):\n    return 0\n")


def commit(project: Repo) -> None:
    project.write("other.py")
    project.git("add", "other.py")
    project.git("commit", "-q", "-m", "elsewhere")


def nothing(project: Repo) -> None:
    """Reading the tree or creating a branch does not change what was reviewed."""
    (project.root / "app.py").touch()
    project.git("status")
    project.git("branch", "elsewhere")


@pytest.mark.parametrize(
    ("meddle", "words", "code", "said"),
    [
        (edit, ("--fail-on", "high"), 4, "the change that step 'review' read was changed during the run"),
        (edit, ("--require-review", "--diff", "all"), 4, "was changed during the run"),
        (commit, ("--fail-on", "high"), 4, "HEAD moved from"),
        (
            commit,
            ("--fail-on", "high", "--diff", "HEAD~1..HEAD"),
            4,
            "HEAD~1..HEAD means other commits now",
        ),
        (commit, ("--fail-on", "high", "--diff", "main~1"), 4, "HEAD moved from"),
        (nothing, ("--fail-on", "high"), 0, "Review status: pass"),
        (edit, ("--fail-on", "high", "--diff", "HEAD~1..HEAD"), 0, "Review status: pass"),
        (edit, (), 0, "Review status: pass"),
    ],
)
def test_a_review_of_an_outdated_change_does_not_count(
    aethr: Aethr,
    project: Repo,
    monkeypatch: pytest.MonkeyPatch,
    meddle: Callable[[Repo], None],
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    project.git("stash", "-q")
    project.write("app.py", "def total(prices):\n    return 1\n")
    project.commit("second")
    project.git("stash", "drop", "-q")
    project.write("app.py", "def total(prices):\n    return 2\n")

    def reply(_: object) -> str:
        meddle(project)
        return PASS

    with ModelServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("AETHR_LIVE", "1")
        done = aethr("run", "--preset", "review-existing-diff", *words, TASK)
    assert (done.code, said in done.out) == (code, True), done.out


# --- the scope of a resumed run ------------------------------------------------------------------


def test_a_resume_reviews_the_change_chosen_first(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change was staged when the run started; a later edit must not replace it."""
    project.write(".aethr.yaml", TWO_STEPS)
    project.git("add", "-A")
    with serving(monkeypatch, text("An idea."), error(401, "no"), text(PASS)) as server:
        stopped = aethr("run", TASK)
        assert (stopped.code, stopped.out.splitlines()[0]) == (3, "reviewing staged changes: 2 files, +7 -1")
        project.write("README.md", "# Another shop\n")
        done = aethr(*resume_words(stopped.err))
    assert (done.code, done.out.splitlines()[0]) == (0, "reviewing staged changes: 2 files, +7 -1"), done.err
    assert "Another shop" not in server.bodies[-1]["messages"][0]["content"]


def test_a_resume_reviews_the_same_commits_of_a_moved_name(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch, temp: Path
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    head = project.commit("second")
    project.git("branch", "topic")
    with serving(monkeypatch, text("An idea."), error(401, "no"), text(PASS)) as server:
        assert aethr("run", "--diff", "main~1..topic", TASK).code == 3
        project.git("branch", "-f", "topic", "main~1")
        (file,) = temp.glob("*.jsonl")
        done = aethr("run", "--json", "--resume-checkpoint", f"@{file}")
    assert done.code == 0, done.err
    assert (done.record["scope"]["diff"], done.record["scope"]["head"]) == ("main~1..topic", head)
    assert "+    return sum(prices) + 1" in server.bodies[-1]["messages"][0]["content"]


def test_a_resume_notices_a_change_after_a_skipped_review(
    aethr: Aethr, project: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.git("checkout", "-q", "app.py")
    project.write(".aethr.yaml", SKIPS)
    project.commit()
    with serving(monkeypatch, text("Notes."), error(401, "no"), text("A report.")) as server:
        stopped = aethr("run", "--fail-on", "high", TASK)
        assert (stopped.code, "not called: no changes" in stopped.out) == (3, True), stopped.out
        project.write("app.py", "new\n")
        moved = aethr(*resume_words(stopped.err))
        assert (moved.code, "reviewed before the checkpoint" in moved.err) == (4, True), moved.err
        project.git("checkout", "-q", "app.py")
        done = aethr(*resume_words(stopped.err), "--json")
    assert (done.code, len(server.bodies)) == (0, 3), done.err
    assert done.record["skipped"][0]["step"] == "review"
    assert done.record["review"]["reason"] == "nothing changed"


SKIPS = """\
workflow: skips
roles: {thinker: "Think.", reviewer: "Review.", writer: "Write."}
models: {thinker: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini", writer: "openai:gpt-4o-mini"}
steps:
  - {id: think, role: thinker, context: [file:README.md]}
  - {id: review, role: reviewer, context: [git_diff]}
  - {id: report, role: writer}
"""
