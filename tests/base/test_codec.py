"""Step results as JSON: lossless, and strict about what comes back."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aethr.base import codec
from aethr.base.records import (
    SEVERITIES,
    Artifacts,
    Check,
    CommandCheck,
    Finding,
    Lines,
    PlaceId,
    Quote,
    Receipt,
    Sent,
    StepResult,
    Usage,
)
from tests.support import many

examples = many(150)

words = st.text(st.characters(codec=None), max_size=20)
counts = st.integers(0, 2**40)
amounts = st.floats(0, 1e12, allow_nan=False)
lines = st.none() | counts
findings = st.builds(
    Finding,
    st.sampled_from(SEVERITIES),
    st.none() | words,
    lines,
    words,
    end_line=lines,
    by=st.lists(words, max_size=2).map(tuple),
    evidence=st.none() | words,
    suggestion=st.none() | words,
    check=st.none() | st.builds(Check, words, words, st.builds(Quote, words, words, words, lines, lines)),
)
steps = st.builds(
    StepResult,
    options=st.dictionaries(
        words, st.none() | words | st.lists(st.integers()) | st.dictionaries(words, words)
    ),
    reasoning_effort=st.none() | words,
    fallback_for=st.none() | words,
    id=words,
    role=words,
    backend=words,
    model=st.none() | words,
    iteration=st.integers(1, 99),
    part=st.integers(1, 99),
    parts=st.integers(1, 99),
    prompt_sha256=words,
    content=words,
    finish_reason=words,
    truncated=st.booleans(),
    seconds=amounts,
    calls=counts,
    transport=words,
    usage=st.builds(
        Usage, counts, counts, counts, st.none() | amounts, st.booleans(), *[st.none() | counts] * 3
    ),
    context=st.lists(
        st.builds(
            Receipt,
            words,
            st.none() | words,
            counts,
            counts,
            st.none() | words,
            st.none() | words,
            st.booleans(),
            counts,
            counts,
            counts,
            st.none() | words,
            st.lists(st.builds(Lines, counts, counts), max_size=2).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    artifacts=st.none() | st.builds(Artifacts, st.lists(words, max_size=3).map(tuple), words, words),
    notes=st.lists(words, max_size=2).map(tuple),
    check=st.none() | st.builds(CommandCheck, words, st.booleans(), words),
    cut_prompt=st.none() | words,
    verdict_from=counts,
    over_limit=st.none() | words,
    form=st.sampled_from(["text", "schema"]),
    skipped=st.none() | words,
    quotes=st.lists(st.builds(Quote, words, words, words, lines, lines, st.none() | words), max_size=2).map(
        tuple
    ),
    shown=st.lists(findings, max_size=2).map(tuple),
    sent=st.lists(
        st.builds(Sent, words, st.none() | words, st.none() | words, counts, counts), max_size=2
    ).map(tuple),
    places=st.lists(st.builds(PlaceId, st.none() | words, lines, lines, words), max_size=2).map(tuple),
)

PLAIN = StepResult("review", "reviewer", "model", "openai:x", 1, "0" * 64, "text", usage=Usage(1, 2, 3, None))


def changed(**values: object) -> dict[str, Any]:
    return {**codec.to_json(PLAIN), **values}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in codec.to_json(PLAIN).items() if key != name}


class Grown(NamedTuple):
    """What the records may hold one day: every kind of annotation, each with a default or without."""

    word: str
    line: str | None
    count: int
    usage: Usage
    later_word: str = "none"
    later_flag: bool = True
    later_count: int | None = 7
    later_amount: float = 0.5
    later_words: tuple[str, ...] = ()
    later_receipts: tuple[Receipt, ...] = ()
    later_check: CommandCheck | None = None


def test_a_field_is_written_and_read_by_its_annotation_alone() -> None:
    old = Grown("a", None, 1, Usage(1, 2, 3))
    new = Grown(
        *("a", "b", 1, Usage(1, 2, 3), "c", False, None, 1.5, ("d",)),
        later_receipts=(Receipt("git_diff", None, 1),),
        later_check=CommandCheck("x", True, "exit 0"),
    )
    written = json.loads(codec.dumps(codec.to_json(new)))
    assert codec._record(Grown, written) == new
    earlier = {name: value for name, value in written.items() if not name.startswith("later")}
    assert codec._record(Grown, earlier) == old._replace(line="b")
    with pytest.raises(ValueError, match="'later_words': expected an array, found text"):
        codec._record(Grown, {**written, "later_words": "d"})


@examples
@given(steps)
def test_a_step_survives_its_json(step: StepResult) -> None:
    text = codec.dumps(codec.to_json(step))
    text.encode("utf-8")
    assert codec.step_from_json(json.loads(text)) == step


def test_json_is_readable_and_free_of_control_characters() -> None:
    text = codec.dumps({"b": "é \x1b \x9b \u202e \ud800", "a": 1})
    assert text == '{\n  "b": "é \\u001b \\u009b \\u202e \\ud800",\n  "a": 1\n}\n'
    assert json.loads(text)["b"] == "é \x1b \x9b \u202e \ud800"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_nan_and_infinity_cannot_be_written(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        codec.dumps({"a": number})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "a step: expected an object, found an array"),
        ({}, "'id' is missing; expected text"),
        (changed(id=3), "'id': expected text, found the number 3"),
        (changed(content=None), "'content': expected text, found null"),
        (changed(model=[]), "'model': expected text, found an array"),
        (changed(iteration=0), "'iteration': expected a whole number from 1, found the number 0"),
        (changed(iteration=True), "'iteration': expected a whole number from 1, found true or false"),
        (changed(calls=1.5), "'calls': expected a whole number from 0, found the number 1.5"),
        (changed(calls=10**400), "'calls': expected a whole number from 0, found a number out of range"),
        (
            changed(seconds=float("inf")),
            "'seconds': expected a number from 0, found a number out of range",
        ),
        (changed(seconds=float("nan")), "'seconds': expected a number from 0, found a number out of range"),
        (changed(seconds=10**400), "'seconds': expected a whole number from 0, found a number out of range"),
        (changed(seconds="1"), "'seconds': expected a number from 0, found text"),
        (changed(truncated=0), "'truncated': expected true or false, found the number 0"),
        (changed(usage=[]), "'usage': expected an object, found an array"),
        (changed(usage={}), "'prompt_tokens' is missing; expected a whole number from 0"),
        (without("finish_reason"), "'finish_reason' is missing; expected text"),
        (without("truncated"), "'truncated' is missing; expected true or false"),
        (changed(artifacts={"changed_files": []}), "'diff_stat' is missing; expected text"),
        (changed(skipped=1), "'skipped': expected text, found the number 1"),
        (changed(check={"command": "x"}), "'passed' is missing; expected true or false"),
        (changed(context={}), "'context': expected an array, found an object"),
        (changed(context=["x"]), "an entry of 'context': expected an object, found text"),
        (changed(artifacts="x"), "'artifacts': expected an object, found text"),
        (changed(notes=[1]), "'notes': expected an array of text, found the number 1"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_in_one_line(value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        codec.step_from_json(value)
    assert str(caught.value) == message


def test_unknown_keys_are_ignored() -> None:
    assert (
        codec.step_from_json(changed(later="thing", usage={**codec.to_json(PLAIN)["usage"], "more": 1}))
        == PLAIN
    )


def test_a_whole_number_of_seconds_is_an_amount() -> None:
    assert codec.step_from_json(changed(seconds=2)).seconds == 2.0


def test_the_seed_form_of_a_step_is_read() -> None:
    step = codec.step_from_seed(
        {
            "step_id": "plan",
            "content": "do it",
            "metadata": {"model": "openai:x", "other": 1},
            "artifacts": {"changed_files": ["a.py"]},
            "usage": {"prompt_tokens": 7, "total_tokens": 9, "cost_usd": 0.5},
        }
    )
    assert (step.id, step.content, step.model, step.role) == ("plan", "do it", "openai:x", "")
    assert step.artifacts == Artifacts(("a.py",))
    assert step.usage == Usage(7, None, 9, 0.5)
    bare = codec.step_from_seed({"step_id": "plan", "content": "", "artifacts": {}, "usage": None})
    nulls = {"changed_files": ["a.py"], "diff_stat": None, "git_diff": None}
    assert (
        codec.step_from_seed({"step_id": "a", "content": "", "artifacts": nulls}).artifacts == step.artifacts
    )
    assert (bare.artifacts, bare.usage) == (None, Usage())


@pytest.mark.parametrize(
    "value",
    [{}, {"step_id": 1, "content": ""}, {"step_id": "a"}, {"step_id": "a", "content": "", "usage": 1}],
)
def test_a_broken_seed_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        codec.step_from_seed(value)


@pytest.mark.parametrize(
    "usage", [Usage(), Usage(7, None, None, 0.5), Usage(0, 0, 0, 0.0), Usage(3, 4, 7, None, estimated=True)]
)
def test_unknown_and_estimated_usage_stays_so(usage: Usage) -> None:
    written = codec.to_json(PLAIN._replace(usage=usage))
    assert json.loads(codec.dumps(written))["usage"] == usage._asdict()
    assert codec.step_from_json(written).usage == usage


def test_a_step_of_an_earlier_version_is_read() -> None:
    written = codec.to_json(PLAIN._replace(usage=Usage(0, 0, 0, None)))
    del written["usage"]["estimated"], written["over_limit"]
    assert codec.step_from_json(written) == PLAIN._replace(usage=Usage(0, 0, 0, None))


def test_a_choice_is_one_of_its_words() -> None:
    assert codec.choice({"mode": "live"}, "mode", ("mock", "live")) == "live"
    with pytest.raises(ValueError, match="expected one of mock, live"):
        codec.choice({"mode": "x"}, "mode", ("mock", "live"))
