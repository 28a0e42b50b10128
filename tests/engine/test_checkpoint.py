"""Checkpoints: round trip, refusals and their messages, changes to the workflow."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base.errors import DiskError, ModelError, UsageError
from aethr.base.records import (
    Artifacts,
    Plan,
    Repeat,
    Scope,
    StepFinished,
    StepResult,
    StepSpec,
    StepStarted,
)
from aethr.engine import checkpoint
from aethr.engine.checkpoint import Failure
from aethr.run.recorder import Recorder
from tests.support import Script, make_plan, many

A = StepSpec("a", "planner", 1000, context=("git_diff",))
B = StepSpec("b", "reviewer", 1000, repeat=Repeat("b", 2, until_review_pass=True))
DONE = StepResult("a", "planner", "model", "m:x", 1, "0" * 64, "é\n", artifacts=Artifacts(("x",), "s", "d"))


def plan(*steps: StepSpec, **more: object) -> Plan:
    return make_plan(steps or (A, B), Script([]), **more)


def saved(tmp_path: Path, **more: object) -> str:
    path = checkpoint.create(tmp_path, "my workflow")
    checkpoint.write(path, checkpoint.dump(plan(**more), [DONE], Failure("b", "down", ("x.py",))))
    return f"@{path}"


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    loaded = checkpoint.load(saved(tmp_path))
    assert (loaded.steps, loaded.task, loaded.mode) == ((DONE,), "the task", "live")
    assert loaded.failure == Failure("b", "down", ("x.py",))
    assert checkpoint.match(loaded, plan()).steps == (DONE,)


def test_a_checkpoint_is_read_from_json_text_too(tmp_path: Path) -> None:
    name = saved(tmp_path)
    assert checkpoint.load(Path(name[1:]).read_text(encoding="utf-8")) == checkpoint.load(name)


def test_the_file_is_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = Path(saved(tmp_path)[1:])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert path.name.startswith("aethr-my-workflow-")


def test_no_empty_checkpoint_exists_before_the_first_write(tmp_path: Path) -> None:
    path = checkpoint.create(tmp_path, "x")
    assert list(tmp_path.iterdir()) == []
    checkpoint.write(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((A._replace(context=("file:x",)), B), "step 'a' .* its context changed"),
        ((A._replace(role="other"), B), "step 'a' .* its role and role text changed"),
        ((A._replace(history_visibility="none"), B), "its history_visibility changed"),
        ((A._replace(repeat=Repeat("a", 2, until_contains="x")), B), "its repeat changed"),
        ((A._replace(id="c"), B), "a step 'a' that the workflow does not have"),
    ],
)
def test_a_changed_finished_step_is_refused_by_name(
    tmp_path: Path, steps: tuple[StepSpec, ...], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        checkpoint.match(checkpoint.load(saved(tmp_path)), plan(*steps))


def test_an_unfinished_step_may_change(tmp_path: Path) -> None:
    changed = B._replace(context=("file:other",), role="judge", context_chars=5)
    assert checkpoint.match(checkpoint.load(saved(tmp_path)), plan(A, changed)).steps == (DONE,)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"task": "another"}, "of another task"),
        ({"mode": "mock"}, "of a live run, and this one is mock"),
        ({"scope": Scope("staged", "staged")}, "of --diff worktree, and this run of --diff staged"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, now: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checkpoint.match(checkpoint.load(saved(tmp_path)), plan(**now))


def test_the_seed_form_is_read() -> None:
    seed = [
        {"step_id": "a", "content": "one", "metadata": {}, "artifacts": {}, "usage": {"total_tokens": 3}},
        {"step_id": "b", "content": "two"},
        {"step_id": "b", "content": "three"},
    ]
    fitting = checkpoint.match(checkpoint.load(json.dumps(seed)), plan())
    assert [(step.id, step.iteration, step.role, step.content) for step in fitting.steps] == [
        ("a", 1, "planner", "one"),
        ("b", 1, "reviewer", "two"),
        ("b", 2, "reviewer", "three"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ('{"schema": 1,', "not JSON, or cut short"),
        ("[" * 100_000, "nested too deeply|not JSON"),
        ("{}", "its schema is None"),
        ('{"schema": 4}', "its schema is 4, not 3"),
        ('{"schema": 1}', "'scope' is missing"),
        ('"text"', "expected an object"),
        ("1e400", "expected an object"),
        ('[{"step_id": 1}]', "step_id"),
        ("[" + "9" * 5000 + "]", "."),
    ],
)
def test_text_that_is_not_a_checkpoint_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        checkpoint.load(text)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_an_infinite_number_is_refused(tmp_path: Path) -> None:
    text = Path(saved(tmp_path)[1:]).read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="seconds"):
        checkpoint.load(text.replace('"seconds": 0.0', '"seconds": 1e400'))


def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xe9")
    os.mkfifo(tmp_path / "fifo")
    for name, said in [
        (str(tmp_path), "not a regular file"),
        (str(tmp_path / "fifo"), "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (str(tmp_path / "none"), "No such file"),
        (str(tmp_path / "latin"), "not UTF-8"),
        ("a\0b", "cannot read"),
    ]:
        with pytest.raises(UsageError, match=said):
            checkpoint.load(f"@{name}")


def test_a_folder_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot write a checkpoint"):
        checkpoint.create(tmp_path / "file", "x")
    with pytest.raises(DiskError, match="cannot write the checkpoint"):
        checkpoint.write(tmp_path / "none" / "x.json", "{}")


def test_an_appended_checkpoint_equals_one_written_whole(tmp_path: Path) -> None:
    again = DONE._replace(iteration=2, content="more")
    path = checkpoint.create(tmp_path, "x")
    left = checkpoint.write(path, checkpoint.dump(plan(), [DONE]))
    assert checkpoint.append(path, checkpoint.step_line(plan(), again), left)
    assert path.read_text(encoding="utf-8") == checkpoint.dump(plan(), [DONE, again])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_resume_completes_a_cut_or_removed_checkpoint(tmp_path: Path) -> None:
    steps = [DONE._replace(iteration=number) for number in range(1, 5)]
    path = tmp_path / "own.jsonl"
    path.write_text(checkpoint.dump(plan(), steps[:2])[:-30], encoding="utf-8")
    done = checkpoint.load(f"@{path}").steps
    recorder = Recorder(plan(), done, tmp_path, path)
    recorder.take(StepFinished(done[0], replayed=True))
    for step in steps[1:3]:
        recorder.take(StepFinished(step))
    assert path.read_text(encoding="utf-8") == checkpoint.dump(plan(), steps[:3])
    path.unlink()
    recorder.take(StepFinished(steps[3]))
    assert path.read_text(encoding="utf-8") == checkpoint.dump(plan(), steps)
    recorder.take(StepStarted("b", "reviewer", "model", None, 1, 2, 2))
    error = ModelError("down")
    error.blame(("x.py",))
    assert recorder.stop(error) == path
    assert checkpoint.load(f"@{path}").failure == Failure("b", str(error), ("x.py",))


def test_a_step_adds_the_same_size_to_any_checkpoint() -> None:
    steps = [DONE._replace(iteration=number) for number in range(10, 60)]
    sizes = [len(checkpoint.dump(plan(), steps[:count])) for count in range(51)]
    assert len({after - before for before, after in pairwise(sizes[1:])}) == 1


def test_a_full_disk_leaves_no_part_of_a_checkpoint_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    left = checkpoint.write(path, checkpoint.dump(plan(), [DONE]))
    whole = path.read_bytes()
    script = (
        "import resource, sys; from pathlib import Path; from aethr.engine import checkpoint\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(whole) + 100}, {len(whole) + 100}))\n"
        f"checkpoint.append(Path(sys.argv[1]), 'x' * 200, {left})"
    )
    done = subprocess.run(  # the limit holds for a whole process
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert "DiskError" in done.stderr
    assert "File too large" in done.stderr
    assert path.read_bytes() == whole


def test_a_cut_checkpoint_gives_its_complete_lines_or_an_error(tmp_path: Path) -> None:
    """The file is created with its first line; a later line that SIGKILL cut off, at any byte, is ignored."""
    steps = (DONE, DONE._replace(iteration=2, content="a\u2028b\x85c\rü\U0001f600"))
    data = checkpoint.dump(plan(), steps, Failure("b", "down")).encode()
    ends = [at for at, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data)):
        (tmp_path / "cut.jsonl").write_bytes(data[:length])
        if length < ends[0]:
            with pytest.raises(UsageError):
                checkpoint.load(f"@{tmp_path / 'cut.jsonl'}")
            continue
        loaded = checkpoint.load(f"@{tmp_path / 'cut.jsonl'}")
        whole = sum(end <= length for end in ends) - 1
        assert (loaded.steps, loaded.failure) == (steps[:whole], None if whole < 3 else Failure("b", "down"))
        assert loaded.cut == (length not in ends and length - 1 not in ends)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"not JSON, or cut short \(line 2\)"),
        ("[]", "line 2: expected an object, found an array"),
        ("{}", "a step: expected an object, found null"),
        ('{"step": {}}', "'id' is missing"),
        ('{"failure": 1}', "'failure': expected an object"),
        ("[" * 100_000, "nested too deeply|not JSON"),
    ],
)
def test_damage_before_the_last_line_is_refused(line: str, said: str) -> None:
    head, *rest = checkpoint.dump(plan(), [DONE]).splitlines()
    with pytest.raises(UsageError, match=said):
        checkpoint.load("\n".join([head, line, *rest]))


def one_document(**changes: object) -> str:
    """A checkpoint as earlier versions wrote it."""
    head, *entries = map(json.loads, checkpoint.dump(plan(), [DONE]).splitlines())
    steps = {"steps": [each["step"] for each in entries], "failure": None}
    contract = {each["step"]["id"]: each["contract"] for each in entries}
    return json.dumps({**head, "schema": 1, "contract": contract, **steps, **changes}, indent=2)


def test_a_checkpoint_in_one_json_object_is_read() -> None:
    failed = {"step": "b", "error": "down", "changed_files": ["x.py"]}
    loaded = checkpoint.load(one_document(failure=failed))
    assert loaded.failure == Failure("b", "down", ("x.py",))
    lines = checkpoint.load(checkpoint.dump(plan(), [DONE]))
    assert loaded._replace(failure=None) == lines._replace(held=())


def test_a_cut_checkpoint_in_one_json_object_is_refused() -> None:
    text = one_document()
    for length in range(len(text)):
        with pytest.raises(UsageError):
            checkpoint.load(text[:length])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["steps", "step", "scope", "contract", "failure", "task", "mode", "schema"]),
)
@many(300)
def test_any_checkpoint_value_loads_or_is_a_usage_error(value: object, key: str) -> None:
    lines = [json.loads(line) for line in checkpoint.dump(plan(), [DONE], Failure("b", "down")).splitlines()]
    grown = "\n".join(json.dumps({**line, key: value} if key in line else line) for line in lines)
    for text in (one_document(**{key: value}), grown):
        try:
            loaded = checkpoint.load(text)
        except UsageError:
            continue
        assert loaded.task is not None
