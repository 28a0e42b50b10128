"""Checkpoints: round trip, what is refused and how it is said, what a changed workflow means."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aethr import checkpoint
from aethr.checkpoint import Failure
from aethr.errors import DiskError, UsageError
from aethr.records import Artifacts, Plan, Repeat, Scope, StepResult, StepSpec
from tests.support import Script, make_plan

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


def test_json_text_is_taken_as_well_as_a_file(tmp_path: Path) -> None:
    name = saved(tmp_path)
    assert checkpoint.load(Path(name[1:]).read_text(encoding="utf-8")) == checkpoint.load(name)


def test_the_file_is_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = Path(saved(tmp_path)[1:])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert path.name.startswith("aethr-my-workflow-")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((replace(A, context=("file:x",)), B), "step 'a' .* its context changed"),
        ((replace(A, role="other"), B), "step 'a' .* its role and role text changed"),
        ((replace(A, history_visibility="none"), B), "its history_visibility changed"),
        ((replace(A, repeat=Repeat("a", 2, until_contains="x")), B), "its repeat changed"),
        ((replace(A, id="c"), B), "a step 'a' that the workflow has not"),
    ],
)
def test_a_changed_finished_step_is_refused_by_name(
    tmp_path: Path, steps: tuple[StepSpec, ...], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        checkpoint.match(checkpoint.load(saved(tmp_path)), plan(*steps))


def test_an_unfinished_step_may_change(tmp_path: Path) -> None:
    changed = replace(B, context=("file:other",), role="judge", context_chars=5)
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
        ('{"schema": 2}', "its schema is 2, not 1"),
        ('"text"', "neither an object nor an array"),
        ("1e400", "neither an object nor an array"),
        ('[{"step_id": 1}]', "step_id"),
        ("[" + "9" * 5000 + "]", "."),
    ],
)
def test_what_is_no_checkpoint_is_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        checkpoint.load(text)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_an_infinite_number_is_refused(tmp_path: Path) -> None:
    text = Path(saved(tmp_path)[1:]).read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="seconds"):
        checkpoint.load(text.replace('"seconds": 0.0', '"seconds": 1e400'))


def test_files_that_are_none(tmp_path: Path) -> None:
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


def test_every_cut_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    text = Path(saved(tmp_path)[1:]).read_text(encoding="utf-8").rstrip()
    for length in range(len(text)):
        with pytest.raises(UsageError):
            checkpoint.load(text[:length])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["steps", "scope", "contract", "failure", "task", "mode", "schema"]),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_value_anywhere_is_a_checkpoint_or_a_usage_error(value: object, key: str) -> None:
    document = json.loads(checkpoint.dump(plan(), [DONE])) | {key: value}
    try:
        loaded = checkpoint.load(json.dumps(document))
    except UsageError:
        return
    assert loaded.task is not None
