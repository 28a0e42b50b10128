"""A workflow as YAML again: the very same workflow, in a form that a person can read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base.providers import EFFORTS
from aethr.base.records import Instruction, ModelSpec, Repeat, StepSpec, WorkflowSpec
from aethr.config import PRESETS, read_preset, workflow_file
from aethr.config.workflow_file import text
from aethr.workflow import planning
from tests.support import many

WORDS = planning.vocabulary()
NASTY = (
    "x",
    "ends with a newline\n",
    "two\n\n\nparagraphs, and a third line\n\nhere",
    " begins with a space",
    "ends with a space ",
    "\n begins with a line end",
    "ends with two\n\n",
    "tab\tin it\n\tand before a line",
    "  a list\n  - of\n  - lines",
    "code:\n    indented = 1\n    more = 2\nend",
    "a # b: c, 'd' \"e\" \\f {g} [h] & *i !j |k >l %m @n `o`",
    "- dash",
    "? key",
    "---",
    "...",
    "%YAML 1.1",
    "#comment",
    "true",
    "No",
    "null",
    "12:30:00",
    "1e3",
    "0x1f",
    "2026-01-01",
    "~",
    "=",
    "<<",
    "日本語のレビュー、厳しく。",
    "emoji 🦉, combining e\u0301, a zero width\u200bspace, a bidi\u202emark, \ufeff and \u2028 and \xa0",
    "a  double  space " * 20 + "end",
    "word " * 60 + "end",
    "words " * 30 + "\n" + "more " * 30 + "end",
    "x" * 250,
    "\\" * 200,
    "line\n" + "y" * 200 + "\n  indented " + "z " * 80,
)


def meaning(spec: WorkflowSpec) -> WorkflowSpec:
    return spec._replace(origin="", places={}, lines=())


def again(spec: WorkflowSpec) -> WorkflowSpec:
    return workflow_file.parse(text(spec), "again.yaml", WORDS)


def one_role(guidance: str) -> WorkflowSpec:
    return WorkflowSpec("w", {"a": guidance}, {}, (StepSpec("s", "a", 120_000),), "")


@pytest.mark.parametrize("guidance", NASTY, ids=range(len(NASTY)))
def test_a_saved_role_text_is_read_back_byte_for_byte(guidance: str) -> None:
    assert again(one_role(guidance)).roles == {"a": guidance}


@pytest.mark.parametrize("value", NASTY, ids=range(len(NASTY)))
def test_saved_texts_and_names_are_read_back_everywhere(value: str) -> None:
    repeat = Repeat("s", 3, until_contains=value)
    name = value if "\n" not in value else "a"
    spec = WorkflowSpec(name, {name: "b"}, {}, (StepSpec("s", name, 9, repeat=repeat),), "")
    assert meaning(again(spec)) == spec


@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_preset_keeps_its_head_and_is_read_back(preset: str) -> None:
    spec = workflow_file.parse(read_preset(preset), "preset", WORDS)
    made = text(spec)
    assert meaning(again(spec)) == meaning(spec)
    head = [line for line in read_preset(preset).partition("\nworkflow:")[0].splitlines() if line]
    assert made.splitlines()[: len(head)] == head
    assert text(again(spec)) == made, "writing what was written changes nothing"
    assert [line for line in made.splitlines() if line != line.rstrip()] == []


def test_a_saved_file_looks_handwritten() -> None:
    prose = "Name the files to change, what changes in each, and the tests that prove it. " * 2
    steps = (
        StepSpec("plan", "planner", 5, context=("git_diff", "file:a b#c")),
        StepSpec("review", "reviewer", 5, repeat=Repeat("plan", 3, until_contains="a: b\nc")),
    )
    models = {"planner": ModelSpec("openai:gpt-5"), "reviewer": ModelSpec("x:y", seed=1, timeout_s=0.5)}
    roles = {"planner": "Plan:\n\n\t1. think 🦉\n\t2. say # no more\n", "reviewer": prose.strip()}
    spec = WorkflowSpec("true", roles, models, steps, "", lines=("# Ours.", "", "# not the head"))
    assert meaning(again(spec)) == meaning(spec)
    assert (
        text(spec)
        == """\
# Ours.

workflow: 'true'

roles:
  planner: |
    Plan:

    \t1. think 🦉
    \t2. say # no more
  reviewer: >-
    Name the files to change, what changes in each, and the tests that prove it. Name
    the files to change, what changes in each, and the tests that prove it.

models:
  planner: openai:gpt-5
  reviewer:
    model: x:y
    seed: 1
    timeout_s: 0.5

steps:
  - id: plan
    role: planner
    context:
      - git_diff
      - file:a b#c
  - id: review
    role: reviewer
    repeat:
      back_to: plan
      max_iterations: 3
      until_contains: |-
        a: b
        c

limits:
  context_chars: 5
"""
    )


def test_invisible_characters_are_saved_as_escapes() -> None:
    for hidden in ("\u202e", "\u200b", "\xa0", "\ufeff", "\u2028", "\u3000", "\U000e0041"):
        made = text(one_role(f"日本語 a{hidden}b\nc"))
        assert hidden not in made
        assert "日本語" in made
        assert again(one_role(f"a{hidden}b")).roles == {"a": f"a{hidden}b"}


def test_a_comment_cannot_become_content() -> None:
    """YAML ends a line at U+2028 too; an editor does not."""
    source = "# head\u2028# still a comment\nworkflow: w\nroles: {a: b}\nsteps: [{id: s, role: a}]\n"
    spec = workflow_file.parse(source, "x.yaml", WORDS)
    assert "\u2028" not in text(spec)
    assert meaning(again(spec)) == meaning(spec)


def test_limits_shared_by_all_steps_are_saved_once() -> None:
    steps = (StepSpec("s", "a", 5), StepSpec("t", "a", 5))
    spec = WorkflowSpec("w", {"a": "b"}, {}, steps, "")
    assert text(spec).endswith("\nlimits:\n  context_chars: 5\n")
    apart = spec._replace(steps=(steps[0], steps[1]._replace(context_chars=120_000)))
    assert text(apart).count("limits") == 1
    assert meaning(again(apart)) == meaning(apart)


CHARACTERS = st.characters(blacklist_categories=("Cs", "Cc")) | st.sampled_from("\n\t  #:'\"\\-|>")
TEXTS = st.text(CHARACTERS, min_size=1, max_size=300).filter(str.strip)
LINES = st.text(CHARACTERS.filter(lambda char: char != "\n"), min_size=1, max_size=120).filter(str.strip)
IDS = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e9, 1e9) | LINES | st.just(""),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(LINES, values, max_size=3),
    max_leaves=8,
)
MODELS = st.builds(
    ModelSpec,
    st.sampled_from(["openai:gpt-5", "openrouter/a/b:free", "ollama:llama3.2:3b", "x:y#z"]),
    top_p=st.none() | st.floats(0, 1),
    reasoning_effort=st.none() | st.sampled_from(EFFORTS),
    options=st.dictionaries(LINES, JSON, max_size=3),
    endpoint=st.none() | st.just("A_BASE_URL"),
    fallback=st.sampled_from([(), ("a:b",), ("a:b", "c:d")]),
    temperature=st.none() | st.floats(0, 2),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    max_tokens=st.none() | st.integers(1, 2**31 - 1),
    timeout_s=st.none() | st.floats(0, 86_400, exclude_min=True),
)


@st.composite
def workflows(draw: st.DrawFn) -> WorkflowSpec:
    roles = draw(st.dictionaries(LINES, TEXTS, min_size=1, max_size=4))
    ids = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    sizes = draw(st.sampled_from([[120_000], [7], [7, 120_000]]))
    steps = [
        StepSpec(
            id=name,
            role=draw(st.sampled_from(sorted(roles))),
            context_chars=draw(st.sampled_from(sizes)),
            context=draw(
                st.lists(
                    st.sampled_from(["git_diff", "latest_diff", "glob:**/*.md", "file:a b#c", "file:é: x"])
                ).map(tuple)
            ),
            backend=draw(st.sampled_from(WORDS.backends)),
            unsafe_permissions=draw(st.booleans()),
            allow=draw(st.sampled_from([(), ("npm test",), ("pytest", "make -j2 a.b")])),
            history_visibility=draw(st.sampled_from(["all", "latest", "summary", "none"])),
        )
        for name in ids
    ]
    if draw(st.booleans()):
        repeat = Repeat(
            back_to=draw(st.sampled_from(ids)),
            max_iterations=draw(st.integers(1, 50)),
            until_review_pass=draw(st.booleans()),
            until_contains=draw(TEXTS),
            until_command_passes=draw(st.none() | st.just("pytest -q 'a b' \"#c: d\"")),
        )
        steps[-1] = steps[-1]._replace(repeat=repeat)
    if steps[0].backend == "model" and draw(st.booleans()):
        steps[0] = steps[0]._replace(review=True, answer="schema")
    models = draw(st.dictionaries(st.sampled_from(sorted(roles)), MODELS, max_size=3))
    paths = st.lists(st.sampled_from(["a/", "*.md", "\\#x", "é: x"]), min_size=1).map(tuple)
    instructions = draw(st.lists(st.builds(Instruction, paths, TEXTS), max_size=2).map(tuple))
    made = WorkflowSpec(draw(LINES), roles, models, tuple(steps), "", instructions=instructions)
    return made._replace(answers_by_author=draw(st.booleans()))


@many(80)
@given(workflows())
def test_any_saved_workflow_is_read_back(spec: WorkflowSpec) -> None:
    assert meaning(again(spec)) == spec


@many(150)
@given(TEXTS)
def test_any_saved_role_text_is_read_back(guidance: str) -> None:
    assert again(one_role(guidance)).roles == {"a": guidance}
