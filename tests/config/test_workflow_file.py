"""The workflow file: valid ones become records, all mistakes are reported, with place, line and suggestion.

``data/config/mistakes`` holds cases: a YAML file and beside it the exact text of its mistakes.
Those under ``yaml`` are wrong as YAML, those under ``workflow`` are good YAML.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from aethr.base.errors import ConfigError, ExitCode
from aethr.base.records import ModelSpec, Place, Repeat, StepSpec, WorkflowSpec
from aethr.config import workflow_file
from tests.oracles import VOCABULARY

DATA = Path(__file__).parents[1] / "data" / "config"
MISTAKES = sorted((DATA / "mistakes").rglob("*.yaml"))
VALID = sorted((DATA / "valid").glob("*.yaml"))
SCHEMA = workflow_file.json_schema(VOCABULARY)
BEYOND_A_SCHEMA = {
    "duplicate-ids",
    "many-mistakes",
    "nested-loops",
    "number-forms",
    "overlapping-loops",
    "undefined-roles",
}
"""Good YAML whose mistakes lie between values, or in how a number is written."""


def text_of(case: Path) -> str:
    return case.read_bytes().decode()


def name_of(case: Path) -> str:
    return case.stem


def parse(text: str) -> WorkflowSpec:
    return workflow_file.parse(text, ".aethr.yaml", VOCABULARY)


def mistakes_in(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return caught.value.mistakes


class PlainLoader(yaml.SafeLoader):
    """YAML as a schema sees it; a date is not text."""


PlainLoader.add_constructor("tag:yaml.org,2002:timestamp", lambda *_: None)


def fits_schema(text: str) -> bool:
    # A subclass of SafeLoader.
    return Draft202012Validator(SCHEMA).is_valid(yaml.load(text, PlainLoader))


# --- golden cases ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", MISTAKES, ids=name_of)
def test_each_mistake_has_its_place_line_and_suggestion(case: Path) -> None:
    assert "\n".join(mistakes_in(text_of(case))) + "\n" == case.with_suffix(".txt").read_text("utf-8")


@pytest.mark.parametrize("case", MISTAKES, ids=name_of)
def test_messages_about_a_file_are_printable(case: Path) -> None:
    assert "".join(mistakes_in(text_of(case))).replace("\n", "").isprintable()


@pytest.mark.parametrize("case", MISTAKES, ids=name_of)
def test_a_file_is_refused_in_well_under_a_second(case: Path) -> None:
    start = time.process_time()
    mistakes_in(text_of(case))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("case", VALID, ids=name_of)
def test_a_valid_file_is_accepted_and_fits_the_schema(case: Path) -> None:
    assert parse(text_of(case)).steps
    assert fits_schema(text_of(case))


@pytest.mark.parametrize("case", [case for case in MISTAKES if case.parent.name == "workflow"], ids=name_of)
def test_the_schema_and_the_validation_agree(case: Path) -> None:
    assert fits_schema(text_of(case)) == (case.stem in BEYOND_A_SCHEMA)


# --- values ------------------------------------------------------------------------------------


def test_every_key_reaches_its_record() -> None:
    spec = parse(text_of(DATA / "valid" / "design.yaml"))
    assert spec.name == "plan-implement-review"
    assert spec.roles == {
        "planner": "You plan.",
        "implementer": "You implement\nwhat was planned.\n",
        "reviewer": "You review, strictly.",
    }
    assert spec.models == {
        "planner": ModelSpec("openai:gpt-4o-mini"),
        "reviewer": ModelSpec("anthropic:claude-sonnet-4-20250514", 0.0, 7, 4000, 120.0),
    }
    assert spec.steps == (
        StepSpec("plan", "planner", 90_000, ("git_diff", "file:README.md", "glob:docs/**/*.md")),
        StepSpec("implement", "implementer", 90_000, backend="opencode", history_visibility="latest"),
        StepSpec("review", "reviewer", 40_000, ("latest_diff",), repeat=Repeat("implement", 3, True)),
    )


def test_missing_keys_get_the_defaults_in_the_schema() -> None:
    (step,) = parse(text_of(DATA / "valid" / "minimal.yaml")).steps
    keys = SCHEMA["properties"]["steps"]["items"]["properties"]
    assert step.backend == keys["backend"]["default"] == "model"
    assert step.unsafe_permissions is keys["unsafe_permissions"]["default"] is False
    assert step.history_visibility == keys["history_visibility"]["default"] == "all"
    limits = SCHEMA["properties"]["limits"]["properties"]
    assert step.context_chars == limits["context_chars"]["default"] == 120_000


def test_every_yaml_boolean_is_accepted() -> None:
    head = "{workflow: w, roles: {a: x}, steps: [{id: s, role: a, unsafe_permissions: "
    values = {word: parse(f"{head}{word}}}]}}").steps[0].unsafe_permissions for word in ("on", "YES", "off")}
    assert values == {"on": True, "YES": True, "off": False}


def test_every_value_has_its_place() -> None:
    spec = parse(text_of(DATA / "valid" / "design.yaml"))
    assert spec.places[""] == Place(1, 1)
    assert spec.places["models.reviewer.seed"] == Place(12, 79)
    assert spec.places["steps.0.context.2"] == Place(16, 41)
    assert spec.places["steps.2.repeat.back_to"] == Place(26, 23)
    assert spec.lines[15].strip().startswith("context:")


def test_a_byte_order_mark_and_crlf_do_not_move_places() -> None:
    spec = parse(text_of(DATA / "valid" / "bom-and-crlf.yaml"))
    assert spec.places["workflow"] == Place(1, 11)
    assert spec.lines[0] == "workflow: demo"


# --- later refusals ----------------------------------------------------------------------------


def test_a_later_refusal_looks_like_every_other_mistake() -> None:
    spec = parse(text_of(DATA / "valid" / "design.yaml"))
    error = workflow_file.refuse(spec, [("steps.1.backend", "agents are off in the hook")])
    assert str(error).splitlines() == [
        ".aethr.yaml:19:14: agents are off in the hook",
        "        backend: opencode",
        "                 ^",
    ]
    assert error.exit_code is ExitCode.USAGE


def test_a_later_refusal_points_to_the_nearest_place() -> None:
    spec = parse(text_of(DATA / "valid" / "design.yaml"))
    error = workflow_file.refuse(
        spec, [("models.implementer.model", "no model"), ("steps.9.role", "b"), ("zz", "a")]
    )
    heads = [mistake.splitlines()[0] for mistake in error.mistakes]
    assert heads == [".aethr.yaml:1:1: a", ".aethr.yaml:11:3: no model", ".aethr.yaml:14:3: b"]


# --- the file itself ---------------------------------------------------------------------------


def load_error(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        workflow_file.load(path, VOCABULARY)
    (mistake,) = caught.value.mistakes
    return mistake


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / ".aethr.yaml"
    path.write_bytes((DATA / "valid" / "bom-and-crlf.yaml").read_bytes())
    assert workflow_file.load(path, VOCABULARY).name == "demo"


def test_the_shown_name_is_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".aethr.yaml").write_text("workflow: [a")
    assert load_error(tmp_path / ".aethr.yaml").startswith(".aethr.yaml:1:11: opened here")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("workflow: Prüfung\n".encode("latin-1"), ":1: byte 0xfc is not UTF-8; save it as UTF-8"),
        (b"a: b\nc: \xff\n", ":2: byte 0xff is not UTF-8; save it as UTF-8"),
        ("workflow: x\n".encode("utf-16"), ": is UTF-16; save it as UTF-8"),
        ("workflow: x\n".encode("utf-16-le"), ":1: contains a NUL byte; save it as UTF-8 text"),
        (b"SECRET=1\0PATH=/\0", ":1: contains a NUL byte; save it as UTF-8 text"),
        (b"#" * (workflow_file.MAX_BYTES + 1), ": larger than 128 KiB; a few lines of YAML are expected"),
    ],
    ids=["latin-1", "not-utf-8", "utf-16", "utf-16-without-mark", "nul", "large"],
)
def test_a_file_that_is_not_utf8_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "flow.yaml"
    path.write_bytes(content)
    assert load_error(path) == f"{path}{reason}"


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    assert load_error(tmp_path / "x.yaml") == f"{tmp_path}/x.yaml: no such file; `aethr init` writes one"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert load_error(tmp_path) == f"{tmp_path}: is a folder, not a file"


@pytest.mark.skipif(os.name != "posix", reason="FIFOs and device files are POSIX")
def test_neither_a_fifo_nor_a_device_is_read(tmp_path: Path) -> None:
    fifo, device = tmp_path / "fifo", tmp_path / "device"
    os.mkfifo(fifo)
    device.symlink_to("/dev/zero")
    assert load_error(fifo) == f"{fifo}: is not a regular file"
    assert load_error(device) == f"{device}: is not a regular file"


def test_a_path_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "file/x.yaml: cannot be read: " in load_error(tmp_path / "file" / "x.yaml")
    assert load_error(Path("a\0b")).startswith("a\\x00b: cannot be read: ")


def test_a_file_name_with_escape_sequences_is_shown_escaped() -> None:
    with pytest.raises(ConfigError) as caught:
        workflow_file.parse("a: b", "\x1b[2J\n.yaml", VOCABULARY)
    assert str(caught.value).startswith("\\x1b[2J\\n.yaml:1:1: ")


def test_a_text_over_the_size_limit_is_refused_unread() -> None:
    (mistake,) = mistakes_in("#" * (workflow_file.MAX_BYTES + 1))
    assert mistake.startswith(".aethr.yaml: larger than 128 KiB")


# --- the schema --------------------------------------------------------------------------------


def objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema of a mapping with fixed keys, at any depth."""
    if "properties" in schema:
        yield schema
    below = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    below += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    for one in below:
        yield from objects(one)


def test_the_schema_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_key_has_a_description_and_a_valid_example() -> None:
    found = list(objects(SCHEMA))
    assert [min(one["properties"]) for one in found] == [
        "answers",
        "max_tokens",
        "answer",
        "back_to",
        "context_chars",
        "paths",
        "context_chars",
        "id",
    ]
    for one in found:
        assert one["additionalProperties"] is False
        for key in one["properties"].values():
            assert key["description"].endswith(".")
            assert key["examples"]
            assert all(Draft202012Validator(key).is_valid(example) for example in key["examples"])


def test_the_schema_names_the_vocabulary() -> None:
    other = VOCABULARY._replace(sources={"ticket": workflow_file.ARGUMENT}, backends=("robot",))
    step = workflow_file.json_schema(other)["properties"]["steps"]["items"]["properties"]
    assert step["backend"]["enum"] == ["robot"]
    sources = Draft202012Validator(step["context"]["items"])
    assert sources.is_valid("ticket:12")
    assert not sources.is_valid("ticket")
    assert not sources.is_valid("git_diff")


def test_the_argument_of_any_source_is_checked_by_its_kind() -> None:
    other = VOCABULARY._replace(sources={"tool": workflow_file.COMMAND, "command": workflow_file.ARGUMENT})
    source = workflow_file.context_source(other)
    assert workflow_file.problem_of(source, "tool:sh -c 'x'") == ""
    assert workflow_file.problem_of(source, "tool:sh -c 'x") == "the command has a quote that is not closed"
    assert workflow_file.problem_of(source, "command:it's") == ""


# --- any text -------------------------------------------------------------------------

CHARACTERS = "-:[]{}#&*!|>'\"%@`,?\n\t \\<=~.\r\x85\u2028\ufeff\x00\x1b\ud800é0"
WORDS = [
    *("---", "...", "<<", "%YAML 1.9", "\\u", "\\x0", "&a ", "*a", "!!", "!<", ": ", "? ", ">+9", "\n  - "),
    *("1.0e+400", ".inf", "null", "yes", "2001-99-99", "{<<: *a}"),
]
FRAGMENTS = st.sampled_from([*CHARACTERS, *WORDS])
EDITS = st.lists(
    st.tuples(st.integers(0, 1500), st.integers(0, 9), FRAGMENTS | st.text(max_size=4)), max_size=5
)


def outcome(text: str) -> WorkflowSpec | ConfigError:
    try:
        return parse(text)
    except ConfigError as error:
        return error


@given(st.text())
def test_any_text_is_a_workflow_or_a_list_of_mistakes(text: str) -> None:
    result = outcome(text)
    assert isinstance(result, WorkflowSpec) or str(result).replace("\n", "").isprintable()


@given(st.sampled_from(VALID), EDITS)
def test_an_edited_file_fits_the_schema_or_has_mistakes(
    case: Path, edits: list[tuple[int, int, str]]
) -> None:
    text = text_of(case)
    for start, length, fragment in edits:
        at = start % (len(text) + 1)
        text = text[:at] + fragment + text[at + length :]
    result = outcome(text)
    if isinstance(result, WorkflowSpec):
        assert fits_schema(text)
    else:
        assert str(result).replace("\n", "").isprintable()


FORMS = """\
workflow: x
roles: {{reviewer: a}}
steps:
  - {{id: one, role: reviewer, context: [{}]}}
  - {{id: two, role: reviewer, context: [{}], verify: [one]}}
"""


@pytest.mark.parametrize(
    ("reviewed", "verifying", "fits"),
    [
        ("'git_diff:20'", "'git_diff:20'", True),
        ("'git_diff:20'", "'git_diff:function'", False),
        ("'git_diff:20', 'file:a.py'", "'file:a.py', 'git_diff:20'", True),
        ("'git_diff:20'", "'file:a.py'", True),
        ("", "'git_diff:20'", True),
    ],
)
def test_a_verifying_step_cuts_the_change_as_the_review_does(
    reviewed: str, verifying: str, fits: bool
) -> None:
    sources = {"git_diff": workflow_file.ARGUMENT, "file": workflow_file.ARGUMENT}
    text = FORMS.format(reviewed, verifying)
    if fits:
        spec = workflow_file.parse(text, "x", VOCABULARY._replace(sources=sources))
        assert spec.steps[1].verify == ("one",)
        return
    with pytest.raises(ConfigError) as caught:
        workflow_file.parse(text, "x", VOCABULARY._replace(sources=sources))
    [mistake] = caught.value.mistakes
    assert mistake.startswith(
        "x:5:72: verify: 'one' reads git_diff:20 and this step git_diff:function, so their parts differ"
    )
