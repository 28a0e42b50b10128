"""What must hold for any input of what reads untrusted text; the examples are the same on every run."""

from __future__ import annotations

import io
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aethr import engine, git, review
from aethr.base.records import ModelSpec, Rules, StepFinished, StepSpec, View
from aethr.context import collect
from aethr.llm import Alive, Call, Chunk
from aethr.llm.model import ModelBackend
from aethr.output.render import Display, make_renderer
from aethr.review import rendered, thinking
from aethr.review.lines import Line, is_plain, read_plain
from tests import oracles
from tests.fuzz import seeds
from tests.support import Repo, Script, make_plan, make_repo, many

examples = many(300)

# --- the review --------------------------------------------------------------------------------

PIECES = st.sampled_from(seeds.REVIEW_WORDS)
ANSWERS = st.lists(st.tuples(PIECES, st.sampled_from(["", "", "\n", "\n\n", " "])), max_size=12).map(
    lambda pieces: "".join(piece + end for piece, end in pieces)
)


@examples
@given(ANSWERS | st.text())
def test_a_pass_is_only_what_the_rendered_page_shows_as_one(answer: str) -> None:
    oracles.a_pass_only_when_it_is_said(answer)


PLAIN_PIECES = st.sampled_from(
    [
        *(
            "Review status: pass",
            "- ",
            "* ",
            "+ ",
            "# ",
            "### ",
            "**High**",
            "**[high]**",
            "**a b**:",
            "`a b`",
        ),
        *(
            "`src/app.py:2`",
            "text.",
            "- [high] src/app.py:2 — x",
            "\n",
            "\n\n",
            " ",
            "  ",
            "[a] (b)",
            ":",
            "1. ",
        ),
        *(
            "a*b",
            "*a*",
            "_a_",
            "snake_case",
            "`",
            "**",
            "***",
            "---",
            "===",
            "-",
            ">",
            "->",
            "#x",
            "# a #",
            "x  ",
        ),
        *(
            "a\n- b",
            "a\n# b",
            "- - a",
            "- # h",
            "- `c`",
            "# **b**",
            "http://a.b",
            "a@b.c",
            "!",
            "\u00a0",
            "\x0b",
        ),
    ]
)
PLAIN_ANSWERS = st.lists(PLAIN_PIECES, max_size=12).map("".join).filter(is_plain)


@many(300, suppress_health_check=[HealthCheck.filter_too_much])
@given(PLAIN_ANSWERS)
def test_a_plain_answer_is_read_as_the_parser_reads_it(text: str) -> None:
    def seen(lines: Sequence[Line]) -> list[tuple[object, ...]]:
        blocks = list(dict.fromkeys(line.block for line in lines))
        return [
            (
                "".join(f"{run.bold}{run.code}{run.text}" for run in line.spans).strip(),
                *(line.kind, line.plain, line.depth, blocks.index(line.block)),
            )
            for line in lines
        ]

    assert seen(read_plain(text)) == seen(rendered.parse_lines(text))


@examples
@given(ANSWERS)
def test_what_is_said_behind_a_closed_answer_counts(text: str) -> None:
    answer = thinking.split(text).answer
    assert review.parse(f"{review.close_blocks(answer)}\n\nReview status: revise").status == "revise"
    assert review.close_blocks(review.close_blocks(answer)) == review.close_blocks(answer)


# --- workflow files and checkpoints ------------------------------------------------------------

EDITS = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 40), st.sampled_from(seeds.FRAGMENTS)), max_size=4
)


def edited(text: str, edits: Sequence[tuple[int, int, str]]) -> str:
    for start, length, fragment in edits:
        at = start % (len(text) + 1)
        text = text[:at] + fragment + text[at + length :]
    return text


@examples
@given(st.sampled_from(seeds.checkpoints()), EDITS)
def test_an_edited_checkpoint_is_one_or_a_line_that_says_why_not(
    text: str, edits: list[tuple[int, int, str]]
) -> None:
    oracles.a_checkpoint_or_one_line(edited(text, edits))


@examples
@given(st.sampled_from(seeds.workflows()), EDITS)
def test_an_edited_workflow_is_one_or_its_mistakes(text: str, edits: list[tuple[int, int, str]]) -> None:
    oracles.a_workflow_or_its_mistakes(edited(text, edits))


# --- the diff: sent or listed ------------------------------------------------------------------

NAMES = ("a.py", "b/c.py", "yarn.lock", "with space.txt", "é.py", "z.min.js")
CONTENT = st.lists(
    st.sampled_from(["a\n", "-b\n", "+c\n", "@@ -1 +1 @@\n", "diff --git a/x b/x\n", "x" * 90 + "\n"]),
    max_size=30,
)
CHANGED = re.compile(r"""[+-](?!\+\+ ("?b/|/dev)|-- ("?a/|/dev))""")
TREES = st.dictionaries(st.sampled_from(NAMES), CONTENT.map("".join), min_size=1)


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES, TREES, st.sampled_from([40, 400, 4000, 100_000]), st.booleans())
def test_every_changed_line_is_sent_or_listed(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[str, str],
    after: dict[str, str],
    budget: int,
    defaults: bool,
) -> None:
    repo = tree(tmp_path_factory.mktemp("tree"), before, after)
    view = View(repo.root, git.resolve_scope(repo.root, "worktree"), rules=Rules(defaults=defaults))
    (block,) = collect(("git_diff",), budget, view)
    counted = dict(numstat(repo))
    receipts = {receipt.path: receipt for receipt in block.receipts if receipt.path}
    assert {name: receipt.changed_lines for name, receipt in receipts.items()} == counted
    sent = [line for line in block.text.splitlines() if CHANGED.match(line)]
    assert len(sent) == sum(receipt.sent_lines for receipt in receipts.values())
    for name, receipt in receipts.items():
        assert (receipt.excluded is not None) == (defaults and name in ("yarn.lock", "z.min.js"))
        assert receipt.sent_lines == receipt.changed_lines or receipt.excluded or not receipt.complete
        assert receipt.sent_lines == 0 or not receipt.excluded
        assert (receipt.complete and not receipt.excluded) or name in block.text


def tree(root: Path, before: dict[str, str], after: dict[str, str]) -> Repo:
    """A repository in which the files ``before`` are committed and the tree holds those of ``after``."""
    repo = make_repo(root)
    repo.git("config", "core.quotePath", "false")
    for name, content in before.items():
        repo.write(name, content)
    repo.commit()
    for name in before:
        (repo.root / name).unlink()
    for name, content in after.items():
        repo.write(name, content)
    repo.git("add", "-AN")
    return repo


def numstat(repo: Repo) -> list[tuple[str, int]]:
    rows = [row.split("\t") for row in repo.git("diff", "--numstat", "-z", "--no-renames").split("\0") if row]
    return [(name, int(added) + int(removed)) for added, removed, name in rows]


# --- a stream, cut anywhere --------------------------------------------------------------------

SECRET = "sk-0123456789abcdef"
STREAMS = st.lists(
    st.sampled_from(
        ["\x1b[31m", "\r\n", "\r", "\ud83d\ude00", "\ud83d", "\ude00", SECRET, SECRET[:9], "é", "word ", "\n"]
    ),
    min_size=1,
    max_size=8,
).map("".join)


@dataclass
class Pieces:
    """A transport whose answer comes in given pieces."""

    pieces: Sequence[str]
    name: str = "pieces"

    def load(self) -> None:
        """Nothing is imported."""

    def open(self, _call: Call, _alive: Alive) -> Pieces:
        return self

    def chunks(self) -> Generator[Chunk, None, None]:
        yield from map(Chunk, self.pieces)
        yield Chunk(finish_reason="stop")

    def hang_up(self) -> None:
        """Nothing is open."""


def shown(pieces: Sequence[str]) -> tuple[str, str]:
    """What a run with this answer prints while it streams, and what it keeps."""
    made = make_plan([StepSpec("think", "thinker", 1000)], Script([]), secrets=(SECRET,))
    backend = ModelBackend({"OPENAI_API_KEY": SECRET}, lambda _: Pieces(pieces))
    step = made.steps[0]._replace(backend=backend, model=ModelSpec("openai:m"))
    out, kept = io.StringIO(), ""
    with make_renderer(Display(stream=True), out, out, {}) as show:
        for event in engine.run(made._replace(steps=(step,)), (), clock=lambda: 0.0):
            show(event)
            kept = event.result.content if isinstance(event, StepFinished) else kept
    return out.getvalue(), kept


@examples
@given(STREAMS, st.lists(st.integers(0, 60), max_size=6))
def test_a_stream_cut_anywhere_shows_and_keeps_the_same(text: str, cuts: list[int]) -> None:
    whole = f"begin {text} end"
    places = [0, *sorted(min(at, len(whole)) for at in cuts), len(whole)]
    assert shown([whole[a:b] for a, b in pairwise(places)]) == shown([whole])


def test_a_stream_cut_at_every_place() -> None:
    whole = f"a \x1b[31m\r\n{SECRET}\ud83d\ude00 \ud83d \x9b2J ::error::x\r"
    out, kept = shown([whole])
    assert SECRET not in out + kept
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", out) is None
    for at in range(1, len(whole)):
        assert shown([whole[:at], whole[at:]]) == (out, kept), at
    assert shown(list(whole)) == (out, kept)
