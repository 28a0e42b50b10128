"""Shards of a run, and their merge: together what one run is, and never more than was reviewed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live import TASK, Aethr, aethr, project, temp
from tests.model_server import ModelServer, Reply, error
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]

WORKFLOW = """\
workflow: wide
roles: {analyst: "Look for causes.", reviewer: "Review."}
models: {analyst: "openai:gpt-4o-mini", reviewer: "openai:gpt-4o-mini"}
limits: {context_chars: 1800}
steps:
  - {id: analyse, role: analyst, context: [git_diff]}
  - {id: review, role: reviewer, context: [git_diff, "file:README.md"]}
"""
FILES = 14
BUGS = (3, 8, 12)


def answer(body: dict[str, Any]) -> Reply:
    """By the prompt alone: a finding for each planted bug, and tokens by its length."""
    prompt = "".join(message["content"] for message in body["messages"])
    found = [
        f"- [{'high' if int(number) == BUGS[0] else 'low'}] m{number}.py:2 — bug {number}"
        for number in dict.fromkeys(re.findall(r"^ *\d+ \+bug (\d+)", prompt, re.MULTILINE))
    ]
    status = "revise" if any("[high]" in line for line in found) else "pass"
    text = "\n".join([*found, f"It has {len(prompt)} characters.", "", f"Review status: {status}"])
    return Reply(chunks=(text,), usage=(len(prompt) // 4, len(text) // 4))


@pytest.fixture
def server(wide: Repo, monkeypatch: pytest.MonkeyPatch) -> Any:
    with ModelServer(answer) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
        monkeypatch.setenv("AETHR_LIVE", "1")
        yield running


@pytest.fixture
def wide(project: Repo) -> Repo:
    """A change of several parts, with three planted bugs."""
    project.git("restore", ".")
    project.write(".aethr.yaml", WORKFLOW)
    for number in range(FILES):
        project.write(f"m{number}.py", "first\n")
    project.write("package-lock.json", "{}\n")
    project.commit("before")
    for number in range(FILES):
        planted = f"bug {number}\n" if number in BUGS else ""
        project.write(f"m{number}.py", f"first\n{planted}" + f"line of {number}\n" * 30)
    project.write("package-lock.json", "[]\n" * 50)
    project.commit("after")
    return project


def run(aethr: Aethr, *words: str, code: int = 0) -> dict[str, Any]:
    done = aethr("run", "--diff", "HEAD~1..HEAD", "--json", *words, TASK)
    assert done.code == code, done.err
    return done.record


def shards(aethr: Aethr, of: int, *words: str) -> list[Path]:
    """The records of all shards, as files."""
    files = [Path(f"shard-{number}.json") for number in range(1, of + 1)]
    for number, file in enumerate(files, 1):
        run(aethr, "--shard", f"{number}/{of}", "--report", str(file), *words)
    return files


def merged(aethr: Aethr, files: list[Path], *words: str, code: int = 0) -> dict[str, Any]:
    done = aethr("merge", *map(str, files), "--json", *words)
    assert done.code == code, done.err
    return done.record


def refused(aethr: Aethr, *files: Path | str) -> str:
    """The one line that says why these records are not merged, without its fix."""
    done = aethr("merge", *map(str, files))
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    return done.err.splitlines()[0]


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    document = json.loads(file.read_text())
    change(document)
    copy = file.with_name(f"edited-{file.name}")
    copy.write_text(json.dumps(document))
    return copy


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    steps = [{**step, "seconds": 0} for step in record["steps"]]
    for need in (need for case in ("about", "most") for need in (record["estimate"] or {}).get(case, ())):
        need["cost_usd"] = round(need["cost_usd"], 9)  # a sum of the same amounts in another order
    return {**record, "steps": steps, "totals": {**record["totals"], "seconds": 0}}


@pytest.mark.parametrize(
    ("gate", "most"),
    [
        (("--fail-on", "low"), 3),
        pytest.param((), 5, marks=pytest.mark.slow),
        pytest.param(("--fail-on", "high"), 5, marks=pytest.mark.slow),
        pytest.param(("--require-review",), 5, marks=pytest.mark.slow),
    ],
)
def test_shards_together_are_one_run(
    aethr: Aethr, server: ModelServer, gate: tuple[str, ...], most: int
) -> None:
    code = 1 if "--fail-on" in gate else 0
    whole = without_times(run(aethr, *gate, code=code))
    assert whole["change"]["parts"] >= 5
    assert [each["path"] for each in whole["excluded"]] == ["package-lock.json"]
    assert [found["path"] for found in whole["review"]["findings"]] == ["m3.py", "m12.py", "m8.py"]
    calls = len(server.bodies)
    prompts = sorted(json.dumps(body) for body in server.bodies)
    for of in (*range(1, most + 1), whole["change"]["parts"] + 1):
        server.requests.clear()
        files = shards(aethr, of)
        assert len(server.bodies) == calls
        assert sorted(json.dumps(body) for body in server.bodies) == prompts
        assert without_times(merged(aethr, files[::-1], *gate, code=code)) == whole


def test_findings_of_two_reviewers_are_merged_as_in_one_run(
    aethr: Aethr, server: ModelServer, wide: Repo
) -> None:
    wide.write(".aethr.yaml", WORKFLOW + "  - {id: second, role: reviewer, context: [git_diff]}\n")
    whole = without_times(run(aethr, "--fail-on", "high", code=1))
    found = whole["review"]["findings"]
    assert [(each["path"], each["by"]) for each in found] == [
        (path, ["review", "second"]) for path in ("m3.py", "m12.py", "m8.py")
    ]
    assert len({each["id"] for each in found}) == 3
    assert without_times(merged(aethr, shards(aethr, 2)[::-1], "--fail-on", "high", code=1)) == whole


def test_a_shard_sends_its_own_parts_and_gives_no_verdict(aethr: Aethr, server: ModelServer) -> None:
    done = aethr("run", "--diff", "HEAD~1..HEAD", "--shard", "2/3", "--report", "two.json", TASK)
    record = json.loads(Path("two.json").read_text())
    of = record["change"]["parts"]
    own = list(range(2, of + 1, 3))
    assert [(step["id"], step["part"]) for step in record["steps"]] == [
        (step, part) for step in ("analyse", "review") for part in own
    ]
    assert len(server.bodies) == 2 * len(own)
    assert done.code == record["exit_code"] == 0
    assert (record["outcome"], record["review"]["status"]) == ("not-reviewed", "none")
    last = done.out.splitlines()[-1]
    assert last.startswith(f"NOT A VERDICT: shard 2 of 3, parts {', '.join(map(str, own))} of {of}; ")
    quiet = aethr("run", "--diff", "HEAD~1..HEAD", "--shard", "2/3", "-q", TASK)
    assert quiet.out.splitlines()[-1] == last


def test_a_shard_without_a_part_calls_nothing(aethr: Aethr, server: ModelServer) -> None:
    of = 1 + run(aethr)["change"]["parts"]
    server.requests.clear()
    record = run(aethr, "--shard", f"{of}/{of}")
    assert (record["steps"], server.bodies) == ([], [])
    assert record["review"]["reason"].startswith(f"shard {of} of {of}, none of the {of - 1} parts; ")
    assert aethr("run", "--diff", "HEAD~1..HEAD", "--shard", f"{of}/{of}", "--show-prompt", TASK).out == ""


def test_the_prompts_of_a_shard_are_those_that_it_sends(aethr: Aethr, server: ModelServer) -> None:
    done = aethr("run", "--diff", "HEAD~1..HEAD", "--shard", "2/3", "--show-prompt", TASK)
    heads = re.findall(r"^=== step (\w+) \((\d)/2, part (\d) of \d\)", done.out, re.MULTILINE)
    assert heads[0] == ("analyse", "1", "2")
    assert {(step, number) for step, number, _ in heads} == {("analyse", "1"), ("review", "2")}
    assert server.bodies == []


def test_an_empty_change_is_nothing_to_review(aethr: Aethr, server: ModelServer, wide: Repo) -> None:
    wide.write(".aethr.yaml", WORKFLOW.replace("  - {id: analyse, role: analyst, context: [git_diff]}\n", ""))
    for number in (1, 2):
        aethr(
            "run", "--diff", "HEAD..HEAD", "--shard", f"{number}/2", "--report", f"shard-{number}.json", TASK
        )
    record = merged(aethr, [Path("shard-1.json"), Path("shard-2.json")], "--fail-on", "low")
    assert (record["outcome"], server.bodies) == ("nothing-to-review", [])
    assert merged(aethr, [Path("shard-1.json")], "--fail-on", "low", code=4)["outcome"] == "not-reviewed"


def test_a_change_that_rules_exclude_is_nothing_to_review(
    aethr: Aethr, server: ModelServer, wide: Repo
) -> None:
    wide.write(".aethr.yaml", WORKFLOW.replace("  - {id: analyse, role: analyst, context: [git_diff]}\n", ""))
    wide.commit("one reviewer")
    wide.write("package-lock.json", "{}\n")
    for number in (1, 2):
        words = ("--diff", "head", "--shard", f"{number}/2", "--report", f"../{number}.json")
        assert aethr("run", *words, "--context", "git_diff", TASK).code == 0
    record = merged(aethr, [Path("../1.json"), Path("../2.json")], "--fail-on", "low")
    assert (record["outcome"], server.bodies) == ("nothing-to-review", [])
    assert [each["path"] for each in record["excluded"]] == ["package-lock.json"]


def test_a_missing_shard_is_incomplete_and_named(aethr: Aethr, server: ModelServer) -> None:
    files = shards(aethr, 3)
    whole = merged(aethr, files)
    left = merged(aethr, files[1:], "--require-review", code=4)
    assert left["outcome"] == "incomplete"
    assert left["review"]["reason"].startswith(
        "shard 1 of 3 is missing; step 'analyse' did not review parts 1, 4"
    )
    assert 0 < left["review"]["coverage"] < whole["review"]["coverage"] == 1.0
    closed = merged(aethr, files[1:], "--fail-on", "low", code=1)
    assert closed["outcome"] == "incomplete"
    assert merged(aethr, files[1:])["outcome"] == "incomplete"
    only_empty = merged(aethr, [edit(files[0], lambda it: it.update(steps=[]))], "--fail-on", "high", code=4)
    assert only_empty["outcome"] == "not-reviewed"


def test_a_failed_shard_keeps_its_code_and_is_run_again(
    aethr: Aethr, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = shards(aethr, 2)
    with ModelServer([answer(server.bodies[0]), error(400, "no")]) as failing:
        monkeypatch.setenv("OPENAI_BASE_URL", failing.base_url)
        failed = aethr(
            "run", "--diff", "HEAD~1..HEAD", "--shard", "2/2", "--report", "failed.json", "--json", TASK
        )
    assert failed.code == failed.record["exit_code"] == 3
    assert "--shard 2/2" in failed.err
    record = merged(aethr, [files[0], Path("failed.json")], "--require-review", code=4)
    assert record["outcome"] == "incomplete"
    assert "step 'review' did not review part" in record["review"]["reason"]
    assert "shard 2 of 2 stopped: openai:gpt-4o-mini" in record["review"]["reason"]
    spent = json.loads(files[0].read_text())["totals"]["calls"] + failed.record["totals"]["calls"]
    assert record["totals"]["calls"] == spent
    name = "two different records of shard 2 of 2"
    assert name in refused(aethr, *files, "failed.json")

    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    server.requests.clear()
    checkpoint = re.search(r"--resume-checkpoint (@\S+)", failed.err)
    assert checkpoint is not None
    run(aethr, "--shard", "2/2", "--report", "again.json", "--resume-checkpoint", checkpoint[1])
    assert len(server.bodies) == json.loads(files[1].read_text())["totals"]["calls"] - 1
    again = merged(aethr, [files[0], Path("again.json")])
    assert without_times(again)["review"] == without_times(merged(aethr, files))["review"]


def test_a_reviewer_that_no_record_has_is_missing(aethr: Aethr, server: ModelServer, wide: Repo) -> None:
    wide.write(".aethr.yaml", WORKFLOW + "  - {id: second, role: reviewer, context: [git_diff]}\n")
    [file] = shards(aethr, 1)
    cut = edit(file, lambda it: it.update(steps=[step for step in it["steps"] if step["id"] != "second"]))
    record = merged(aethr, [cut], "--require-review", code=4)
    assert record["outcome"] == "incomplete"
    assert record["review"]["reason"].startswith("step 'second' did not review parts 1, 2, 3")


def test_a_finished_shard_resumes_without_a_call(aethr: Aethr, server: ModelServer, tmp_path: Path) -> None:
    """Its review saw a share of the change, which is not another change."""
    folder = tmp_path / "kept"
    first = run(aethr, "--shard", "1/2", "--checkpoint-dir", str(folder))
    [file] = folder.iterdir()
    server.requests.clear()
    again = run(aethr, "--shard", "1/2", "--resume-checkpoint", f"@{file}")
    assert server.bodies == []
    assert again["steps"] == first["steps"]


def test_shards_of_a_tree_that_rests_are_a_whole_review(
    aethr: Aethr, server: ModelServer, wide: Repo, tmp_path: Path
) -> None:
    wide.git("reset", "-q", "--soft", "HEAD~1")
    wide.git("restore", "--staged", ".")
    files = [tmp_path / f"{number}.json" for number in (1, 2)]
    for number, file in enumerate(files, 1):
        assert aethr("run", "--shard", f"{number}/2", "--report", str(file), TASK).code == 0
    record = merged(aethr, files, "--require-review")
    assert (record["outcome"], record["review"]["reason"]) == ("revise", None)


def test_a_checkpoint_of_another_shard_is_refused(aethr: Aethr, server: ModelServer, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    run(aethr, "--shard", "1/2", "--checkpoint-dir", str(folder))
    [file] = folder.iterdir()
    server.requests.clear()
    done = aethr("run", "--diff", "HEAD~1..HEAD", "--shard", "2/2", "--resume-checkpoint", f"@{file}", TASK)
    assert (done.code, server.bodies) == (2, [])
    assert "the checkpoint does not fit the workflow: step 'analyse' has no part 1" in done.err


def test_the_tree_that_moves_during_a_shard_is_told_by_the_merge(
    aethr: Aethr, server: ModelServer, wide: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit_and_answer(body: dict[str, Any]) -> Reply:
        wide.write("m0.py", "edited meanwhile\n")
        return answer(body)

    wide.git("reset", "-q", "--soft", "HEAD~1")
    wide.git("restore", "--staged", ".")
    for number in (1, 2):
        with ModelServer(edit_and_answer if number == 2 else answer) as own:
            monkeypatch.setenv("OPENAI_BASE_URL", own.base_url)
            code = aethr("run", "--shard", f"{number}/2", "--report", f"shard-{number}.json", TASK).code
            assert code == 0
    record = merged(aethr, [Path("shard-1.json"), Path("shard-2.json")], "--fail-on", "high", code=1)
    assert record["outcome"] == "incomplete"
    assert "was changed during the run" in record["review"]["reason"]


def test_shards_of_the_working_tree_are_complete_if_nothing_moves(
    aethr: Aethr, server: ModelServer, wide: Repo
) -> None:
    wide.git("reset", "-q", "--soft", "HEAD~1")
    files = [Path(f"../shard-{number}.json") for number in (1, 2)]
    for number, file in enumerate(files, 1):
        done = aethr("run", "--shard", f"{number}/2", "--report", str(file), TASK)
        assert done.out.splitlines()[-1].startswith(f"NOT A VERDICT: shard {number} of 2, ")
        assert "during the run" not in done.out
    assert merged(aethr, files, "--fail-on", "high", code=1)["outcome"] == "revise"


def test_a_shard_resumes_after_a_reviewer_that_has_finished(
    aethr: Aethr, server: ModelServer, wide: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide.write(".aethr.yaml", WORKFLOW + "  - {id: second, role: reviewer, context: [git_diff]}\n")
    wide.commit("a second reviewer")
    words = ("--diff", "HEAD~2..HEAD", "--shard", "2/2", "--report", "two.json", "--json", TASK)
    calls = aethr("run", *words).record["totals"]["calls"]

    def refuse_the_last(body: dict[str, Any]) -> Reply:
        return error(400, "no") if len(failing.bodies) == calls else answer(body)

    with ModelServer(refuse_the_last) as failing:
        monkeypatch.setenv("OPENAI_BASE_URL", failing.base_url)
        failed = aethr("run", "--jobs", "1", *words)
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    checkpoint = re.search(r"--resume-checkpoint (@\S+)", failed.err)
    assert checkpoint is not None
    server.requests.clear()
    resumed = aethr("run", "--resume-checkpoint", checkpoint[1], *words)
    assert (resumed.code, len(server.bodies)) == (0, 1), resumed.err
    assert "is not the one" not in resumed.err


def test_what_the_scope_leaves_out_makes_the_merge_incomplete(
    aethr: Aethr, server: ModelServer, wide: Repo
) -> None:
    wide.write("m1.py", "one more\n")
    wide.write("new.py", "new\n")
    assert aethr("run", "--shard", "1/1", "--report", "one.json", TASK).code == 0
    record = merged(aethr, [Path("one.json")], "--fail-on", "high", code=4)
    assert record["outcome"] == "incomplete"
    assert "new.py" in record["review"]["reason"]


def test_more_parts_than_allowed_are_refused_before_the_first_call(
    aethr: Aethr, server: ModelServer, wide: Repo
) -> None:
    wide.write(".aethr.yaml", WORKFLOW.replace("1800}", "1800, parts: 2}"))
    done = aethr("run", "--diff", "HEAD~1..HEAD", "--shard", "3/3", "--report", "three.json", TASK)
    assert (done.code, server.bodies) == (4, [])
    assert "limits.parts allows 2" in done.err
    assert merged(aethr, [Path("three.json")], "--fail-on", "high", code=4)["outcome"] == "not-reviewed"


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (
            "  - {id: more, role: reviewer, context: [git_diff],"
            " repeat: {back_to: analyse, max_iterations: 2, until_review_pass: true}}\n",
            "the step 'more' ends a loop",
        ),
        ("  - {id: build, role: analyst, backend: claude}\n", "the step 'build' is an agent"),
        ("  - {id: sum, role: analyst}\n", "the step 'sum' needs all parts of the change"),
        (
            '  - {id: sum, role: analyst, context: ["file:README.md"]}\n',
            "the step 'sum' needs all parts of the change",
        ),
        (
            "  - {id: late, role: analyst, context: [git_diff, latest_diff]}\n",
            "the step 'late' needs all parts of the change",
        ),
    ],
)
def test_a_workflow_that_needs_all_parts_is_refused(
    aethr: Aethr, server: ModelServer, wide: Repo, steps: str, why: str
) -> None:
    wide.write(".aethr.yaml", WORKFLOW + steps)
    done = aethr("run", "--diff", "HEAD~1..HEAD", "--shard", "1/2", TASK)
    assert (done.code, server.bodies) == (2, [])
    assert re.match(rf"\.aethr\.yaml:8:\d+: --shard: {why}", done.err)


def test_a_command_in_the_context_is_no_obstacle(aethr: Aethr, server: ModelServer, wide: Repo) -> None:
    wide.write(".aethr.yaml", WORKFLOW.replace('"file:README.md"', '"command:git log --format=%s"'))
    whole = without_times(run(aethr))
    assert without_times(merged(aethr, shards(aethr, 3))) == whole
    assert any("before" in json.dumps(body) for body in server.bodies)


@pytest.mark.parametrize(
    "value", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", "１/３", "1/1001", " 1/3"]
)
def test_a_shard_that_is_none_is_refused(aethr: Aethr, value: str) -> None:
    done = aethr("run", f"--shard={value}", TASK)
    assert (done.code, f"--shard {value}: not I/N" in done.err) == (2, True), done.err


@pytest.mark.parametrize("gate", [("--fail-on", "high"), ("--require-review",)])
def test_a_gate_belongs_to_the_merge(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, gate: tuple[str, ...]
) -> None:
    done = aethr("run", "--shard", "1/2", *gate, TASK)
    assert done.code == 2
    assert f"{gate[0]}: a shard has no gate" in done.err
    assert f"Give {gate[0]} to `aethr merge`." in done.err
    monkeypatch.setenv("AETHR_RUN_FAIL_ON", "low")
    assert aethr("run", "--shard", "1/2", TASK).code == 2


def test_records_of_different_runs_are_refused(
    aethr: Aethr, server: ModelServer, wide: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = shards(aethr, 3)

    def other(
        name: str, *words: str, diff: str = "HEAD~1..HEAD", task: str = TASK, shard: str = "2/3"
    ) -> str:
        done = aethr("run", "--diff", diff, "--shard", shard, "--report", f"{name}.json", *words, task)
        assert done.code == 0, done.err
        return refused(aethr, one, f"{name}.json")

    assert "each has another number of shards" in other("of", shard="2/4")
    assert "each has another task" in other("task", task="something else")
    assert "each has another base" in other("base", diff="HEAD~2..HEAD")
    assert "each has another head" in other("head", diff="HEAD~1..HEAD~1")
    wide.write(".aethr.yaml", WORKFLOW.replace("Look for causes.", "Look harder."))
    assert "each has another plan" in other("role")
    wide.write(".aethr.yaml", WORKFLOW.replace("workflow: wide", "workflow: other"))
    assert "each has another workflow" in other("workflow")
    wide.write(".aethr.yaml", WORKFLOW)
    wide.git("commit", "-q", "--allow-empty", "-m", "moved")
    assert "each has another HEAD" in other("moved", diff="HEAD~2..HEAD~1")
    wide.git("reset", "-q", "--soft", "HEAD~1")
    monkeypatch.setenv("AETHR_LIVE", "0")
    assert "each has another mode" in other("mock")
    monkeypatch.setenv("AETHR_LIVE", "1")
    forged = edit(two, lambda it: it["shard"]["plan"].update(sha256="0" * 64))
    assert "each has another plan" in refused(aethr, one, forged)
    newer = edit(two, lambda it: it.update(aethr="99.0"))
    assert "each has another version of Aethr" in refused(aethr, one, newer)
    assert [merged(aethr, [one, one, two])["outcome"], merged(aethr, [one, two])["outcome"]] == [
        "incomplete"
    ] * 2


def test_a_changed_file_makes_another_plan(aethr: Aethr, server: ModelServer, wide: Repo) -> None:
    for number in (1, 2):
        wide.write("m5.py", f"edited {number}\n")
        aethr("run", "--shard", f"{number}/2", "--report", f"shard-{number}.json", TASK)
    assert "each has another plan: its workflow or its change" in refused(
        aethr, "shard-1.json", "shard-2.json"
    )


DAMAGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda it: it.update(schema=1), "its schema is 1, not 2"),
    (lambda it: it.update(shard=None), "it is the record of a whole run"),
    (lambda it: it.pop("shard"), "it is the record of a whole run"),
    (lambda it: it.update(shard=[]), "'shard': expected an object, found an array"),
    (lambda it: it["shard"].pop("tree"), "'tree' is missing"),
    (lambda it: it["shard"].update(number=5), "there is no shard 5 of 2"),
    (lambda it: it["shard"].update(of=10**9), "there is no shard 1 of 1000000000"),
    (lambda it: it["shard"].update(number=2), "step 'analyse', part 1 of"),
    (lambda it: it["shard"].update(plan=None), "step 'analyse', part 1 of"),
    (lambda it: it["shard"]["plan"].update(lines=[1.5]), "'lines': expected a whole number"),
    (
        lambda it: it["shard"]["plan"]["steps"][0].update(history_visibility="some"),
        "'history_visibility'",
    ),
    (lambda it: it["steps"].append(it["steps"][0]), "step 'analyse', part 1 of"),
    (lambda it: it["steps"][0].update(id="else"), "step 'else', part 1 of"),
    (lambda it: it["steps"][0].update(parts=1), "step 'analyse', part 1 of 1, is not of this shard"),
    (lambda it: it["steps"][0].update(iteration=2), "step 'analyse', part 1 of"),
    (lambda it: it["steps"][0].pop("content"), "'content'"),
    (lambda it: it.update(mode="dream"), "'mode': expected one of"),
]


def test_a_damaged_record_is_refused(aethr: Aethr, server: ModelServer) -> None:
    [one, _] = shards(aethr, 2)
    for change, why in DAMAGES:
        line = refused(aethr, edit(one, change))
        assert "edited-shard-1.json: not the record of a shard: " in line
        assert why in line


def test_what_is_no_record_is_refused(aethr: Aethr, tmp_path: Path) -> None:
    for name, data, why in [
        ("empty.json", b"", "it is empty"),
        ("cut.json", b'{"schema": 2,', "it is not JSON, or cut short"),
        ("list.json", b"[]", "a record: expected an object, found an array"),
        ("deep.json", b"[" * 100_000, "nested too deeply"),
        ("latin.json", b'"\xff"', "it is not UTF-8 text"),
    ]:
        file = tmp_path / name
        file.write_bytes(data)
        assert why in refused(aethr, file)
    assert "cannot read the record" in refused(aethr, tmp_path / "missing.json")
    assert "cannot read the record" in refused(aethr, tmp_path)
    assert aethr("merge").code == 2


def test_a_record_is_never_overwritten_by_a_report_of_the_merge(aethr: Aethr, server: ModelServer) -> None:
    [file] = shards(aethr, 1)
    before = file.read_bytes()
    done = aethr("merge", str(file), "--report", f"./{file}")
    assert (done.code, file.read_bytes()) == (2, before)
    assert "it is one of the records" in done.err


def test_the_merge_shows_findings_and_verdict_and_writes_reports(aethr: Aethr, server: ModelServer) -> None:
    files = shards(aethr, 2)
    whole = aethr("run", "--diff", "HEAD~1..HEAD", "--report", "whole.sarif", TASK)
    server.requests.clear()
    done = aethr(
        "merge", *map(str, files), "--fail-on", "high", "--report", "all.sarif", "--report", "all.md"
    )
    assert (done.code, server.bodies) == (1, [])
    lines = done.out.splitlines()
    assert lines[0] == whole.out.splitlines()[0]
    found = [re.fullmatch(r"(.*) \([0-9a-f]{12}\)", line) for line in lines[1:4]]
    assert [each and each[1] for each in found] == [
        "m3.py:2: [high] bug 3",
        "m12.py:2: [low] bug 12",
        "m8.py:2: [low] bug 8",
    ]
    assert any(line.startswith("Review status: revise") for line in lines)
    one, other = (json.loads(Path(f"{name}.sarif").read_text())["runs"][0] for name in ("whole", "all"))
    assert one["results"] == other["results"]
    assert len({each["partialFingerprints"]["aethrPlace/v1"] for each in one["results"]}) == 3
    assert "revise" in Path("all.md").read_text()
    quiet = aethr("merge", *map(str, files), "-q")
    assert quiet.out.count("Review status: ") == json.loads(files[0].read_text())["change"]["parts"] + 1


def test_places_are_the_same_without_the_tree(
    aethr: Aethr, server: ModelServer, wide: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def point(body: dict[str, Any]) -> Reply:
        text = "- [low] README.md:1 — a caller\n- [low] gone.py:1 — nowhere\n\nReview status: pass"
        return Reply(chunks=(text,))

    with ModelServer(point) as own:
        monkeypatch.setenv("OPENAI_BASE_URL", own.base_url)
        whole = run(aethr)
        files = [wide.root / file for file in shards(aethr, 2)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert merged(aethr, files)["review"] == whole["review"]
    assert {found["place"] for found in whole["review"]["findings"]} == {"tree", "nowhere"}


def test_mocks_and_scripts_stay_what_they_are(
    aethr: Aethr, server: ModelServer, wide: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AETHR_LIVE", "0")
    files = shards(aethr, 2)
    record = merged(aethr, files, "--fail-on", "high", code=4)
    assert (record["mode"], record["outcome"], server.bodies) == ("mock", "not-reviewed", [])
    assert "mock mode" in record["review"]["reason"]
