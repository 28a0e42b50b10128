"""Answers that a person wrote, for each case: scripted reviewers, whose numbers can be calculated by hand.

A file of them has the replies of ``aethr run --replies`` for each case, or a list with those of each run::

    last-page: {review: ["- [high] app.py:12 — off by one\\n\\nReview status: revise"]}
    clean-loop: [{review: ["Review status: pass"]}, {review: ["Review status: revise"]}]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from aethr.base.records import Place, WorkflowSpec
from aethr.config import nodes
from aethr.config.kinds import MISSING, NamedOf, Reading, read_document
from aethr.config.mistakes import Mistake, quote
from aethr.config.nodes import Items, Node
from aethr.workflow import backends, planning
from aethr.workflow.backends import Replies, Script


class _OneOrEach(NamedTuple):
    """The replies of every run over a case, or a list with those of each."""

    def schema(self) -> dict[str, Any]:
        one = backends.REPLIES.schema()
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}

    def read(self, node: Node, out: Reading) -> Any:
        if not isinstance(node, Items):
            return backends.REPLIES.read(node, out)
        return [out.below(number).value(backends.REPLIES, each) for number, each in enumerate(node.nodes)]


class Scripts(NamedTuple):
    """The replies of a file, by case. ``editing`` are the steps that change files."""

    raw: Mapping[str, Any]
    origin: str
    places: Mapping[str, Place]
    lines: tuple[str, ...]
    editing: frozenset[str]

    def play(self, case: str, number: int) -> Script:
        """The backend of the Nth run over a case."""
        given, below = self.raw[case], f"{case}."
        if isinstance(given, list):
            given, below = given[number - 1], f"{case}.{number - 1}."
        places = {
            name.removeprefix(below): place for name, place in self.places.items() if name.startswith(below)
        }
        return Script(Replies(backends.to_answers(given), self.origin, places, self.lines), self.editing)


def read(
    path: Path, workflow: WorkflowSpec, cases: Sequence[str], chosen: Sequence[str], repeat: int
) -> Scripts:
    """Read the replies; ``chosen`` are those of the ``cases`` that run, each ``repeat`` times.

    Raises ``ConfigError`` with every mistake.
    """
    editing = frozenset(program.step for program in planning.programs(workflow) if program.agent)
    fits = partial(
        backends.check_steps,
        steps=[step.id for step in workflow.steps],
        editing=editing,
        verifying=frozenset(step.id for step in workflow.steps if step.verify),
    )

    def check(raw: Mapping[str, Any], reading: Reading) -> Iterator[Mistake]:
        for case, given in raw.items():
            own = reading.below(case)
            if case not in cases:
                yield Mistake(reading.keys[case], f"no case {quote(case)}", case, tuple(cases))
                continue
            each = given if isinstance(given, list) else [given]
            if isinstance(given, list) and case in chosen and len(given) < repeat:
                said = f"answers to {len(given)} of the {repeat} runs over {quote(case)}"
                yield Mistake(reading.places[case], said)
            for number, one in enumerate(each):
                if one is not MISSING:
                    yield from fits(one, own.below(number) if isinstance(given, list) else own)
        for case in chosen:
            if case not in raw:
                yield Mistake(Place(1, 1), f"no answers for the case {quote(case)}")

    text, origin = nodes.load(path, "no such file or folder")
    raw, reading, lines = read_document(text, origin, NamedOf("case", _OneOrEach()), check)
    return Scripts(raw, origin, reading.places, lines, editing)
