"""Answers come to the end of a workflow file, and go, without a change to anything else in it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aethr.base.errors import ConfigError, UsageError
from aethr.base.records import Answer
from aethr.config import PRESETS, answer_block, read_preset, workflow_file
from aethr.workflow import planning
from tests.config.test_emit import NASTY
from tests.config.test_workflow_file import VALID, text_of
from tests.oracles import VOCABULARY

WORDS = planning.vocabulary()
ANSWER = Answer("f2a91c40b7de", "medium", "the cache is never emptied", "it lives for one request")
OTHER = Answer("0123456789ab", "low", "a name", "old")
HEAD = """\
workflow: w
roles: {reviewer: Review.}
steps:
  - {id: review, role: reviewer, context: [git_diff]}
"""
BLOCK = """\
answers:
  - id: f2a91c40b7de
    severity: medium
    message: the cache is never emptied
    reason: it lives for one request
"""


def append(text: str, answer: Answer = ANSWER) -> str:
    return answer_block.append(text, ".aethr.yaml", answer, WORDS)


def remove(text: str, place: str = ANSWER.id) -> str:
    return answer_block.remove(text, ".aethr.yaml", place, WORDS)


def given(text: str) -> tuple[Answer, ...]:
    return workflow_file.parse(text, ".aethr.yaml", WORDS).answers


def test_the_first_answer_begins_the_block_and_the_next_one_follows() -> None:
    first = append(HEAD)
    assert first == HEAD + BLOCK
    second = append(first, OTHER)
    assert second.startswith(first)
    assert given(second) == (ANSWER, OTHER)
    assert remove(second, OTHER.id) == first
    assert remove(first) == HEAD


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_takes_an_answer_and_gives_it_back(preset: str) -> None:
    text = read_preset(preset)
    made = append(text)
    assert made.startswith(text)
    assert given(made) == (ANSWER,)
    assert remove(made) == text


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.stem)
def test_every_form_of_a_file_takes_an_answer_or_is_left_alone(case: Path) -> None:
    text = text_of(case)
    before = workflow_file.parse(text, "f", VOCABULARY)
    try:
        made = answer_block.append(text, "f", ANSWER, VOCABULARY)
    except UsageError:
        return
    after = workflow_file.parse(made, "f", VOCABULARY)
    assert made.startswith(text)
    assert after.answers == (*before.answers, ANSWER)
    assert after._replace(answers=(), places={}, lines=()) == before._replace(answers=(), places={}, lines=())


@pytest.mark.parametrize("value", [each for each in NASTY if each.strip()], ids=str.__len__)
def test_any_words_are_read_back(value: str) -> None:
    message = " ".join(value.split())
    answer = ANSWER._replace(message=message, reason=value.strip())
    assert given(append(append(HEAD, OTHER), answer)) == (OTHER, answer)


@pytest.mark.parametrize("place", ["123456789012", "12345e678901", "1234567890e1", "000000000000"])
def test_an_id_that_looks_like_a_number_is_in_quotes(place: str) -> None:
    made = append(HEAD, ANSWER._replace(id=place))
    assert f"id: '{place}'" in made or f'id: "{place}"' in made
    assert given(made)[0].id == place


def test_line_ends_are_those_of_the_file() -> None:
    windows = HEAD.replace("\n", "\r\n")
    made = append(windows)
    assert made == (HEAD + BLOCK).replace("\n", "\r\n")
    assert remove(made) == windows
    assert append(HEAD.removesuffix("\n")) == HEAD + BLOCK
    assert append(windows.removesuffix("\r\n")) == made


def test_the_indentation_is_that_of_the_file() -> None:
    flush = BLOCK.replace("\n  ", "\n")
    made = append(HEAD + flush, OTHER)
    assert made.startswith(HEAD + flush + "- id: ")
    assert remove(made, OTHER.id) == HEAD + flush
    indented = "".join(f"  {line}\n" for line in HEAD.splitlines())
    assert append(indented).startswith(f"{indented}  answers:\n")


def test_comments_and_what_follows_stay() -> None:
    text = (
        f"{HEAD}answers: # mine\n  # the first\n{BLOCK.partition(chr(10))[2]}  # the end\n\n# of the file\n"
    )
    made = append(text, OTHER)
    assert made.startswith(text)
    assert remove(made, OTHER.id) == text
    kept = remove(made)
    assert given(kept) == (OTHER,)
    assert "answers: # mine\n  # the first\n  # the end\n\n# of the file\n" in kept


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{BLOCK}{HEAD}", "'answers' is not the last key: 'steps' comes after it"),
        (f"{HEAD}answers: []\n", "is not a list with a line for each '-'"),
        (
            f"{HEAD}answers: [{{id: f2a91c40b7de, severity: low, message: m, reason: r}}]\n",
            "is not a list with a line for each '-'",
        ),
        ("{workflow: w, roles: {reviewer: r}, steps: [{id: a, role: reviewer}]}\n", "cannot be added"),
        (f"{HEAD}...\n", "cannot be added"),
        (f"{HEAD}limits:\n  context_chars: 9\nexclude:\n  - |-\n    a", ""),
        (HEAD.replace("roles: {reviewer: Review.}\n", "") + "roles:\n  reviewer: |\n    Review", "before it"),
    ],
)
def test_where_an_answer_would_change_more_it_is_refused_with_its_text(text: str, problem: str) -> None:
    if not problem:
        assert given(append(text, OTHER)) == (OTHER,)
        return
    with pytest.raises(UsageError, match=problem) as caught:
        append(text, OTHER)
    assert "id: 0123456789ab" in caught.value.fix


def test_a_file_with_mistakes_is_refused_as_it_is() -> None:
    with pytest.raises(ConfigError, match="unknown key 'rolse'"):
        append(HEAD + "rolse: 1\n")


def test_what_is_not_there_or_is_there_twice_is_not_removed() -> None:
    with pytest.raises(UsageError, match=r"no answer f2a91c40b7dd \(did you mean 'f2a91c40b7de'"):
        remove(HEAD + BLOCK, "f2a91c40b7dd")
    twice = append(HEAD + BLOCK, ANSWER._replace(message="another defect"))
    with pytest.raises(UsageError, match="on lines 6 and 10"):
        remove(twice)
    flow = f"{HEAD}answers: [{{id: f2a91c40b7de, severity: low, message: m, reason: r}}]\n"
    with pytest.raises(UsageError, match="cannot be removed") as caught:
        remove(flow)
    assert "line 5" in caught.value.fix


def test_in_any_order_only_the_named_answer_goes() -> None:
    seeded = random.Random(4)
    for _ in range(25):
        every = [
            Answer(
                f"{seeded.getrandbits(48):012x}",
                "low",
                f"message {number}",
                seeded.choice(NASTY).strip() or "r",
            )
            for number in range(6)
        ]
        text = HEAD + seeded.choice(["", "exclude:\n  - '*.md' # none\n", "# a note\n\n"])
        for each in every:
            text = append(text, each)
        while every:
            gone = every.pop(seeded.randrange(len(every)))
            lines = text.splitlines()
            text = remove(text, gone.id)
            assert given(text) == tuple(every)
            left = iter(lines)
            assert all(line in left for line in text.splitlines())  # in the same order
