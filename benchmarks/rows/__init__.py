"""The table of everything that is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.figures import Figure
from benchmarks.rows import doors, live, runs, startup, trees
from benchmarks.world import Bench


@dataclass(frozen=True, slots=True)
class Row:
    """``measure`` gives its figures; ``floor`` says what they are measured against."""

    name: str
    floor: str
    measure: Callable[[Bench], Iterator[Figure]]


ROWS: tuple[Row, ...] = (
    Row("startup", "`python -c pass`", startup.startup),
    Row("local", '`python -c "import yaml"` and `git diff` in one process', startup.local),
    Row("first-token", "a bare `httpx` script that does the same call", live.first_token),
    Row("first-token-lanes", "a bare `httpx` script that does the same call", live.first_token_lanes),
    Row("first-token-litellm", "a bare LiteLLM script that does the same call", live.first_token_litellm),
    Row("first-token-responses", "the same script in OpenAI's Responses", live.first_token_responses),
    Row("stream", "reading the same stream with `httpx`", live.stream),
    Row("at-once", "the same with one part: the slowest of them", live.at_once),
    Row("evaluation", "a script that makes as many calls in as many threads", live.evaluation),
    Row("diff-large", "`git diff` to /dev/null", trees.diff_large),
    Row("diff-many", "`git diff` to /dev/null", trees.diff_many),
    Row("diff-vast", "`git diff` to /dev/null", trees.diff_vast),
    Row("glob", "`git ls-files` of tracked and untracked files", trees.glob),
    Row("snapshots", "`git stash create`", trees.snapshots),
    Row("long-run", "half of the work", runs.long_run),
    Row("long-loop", "half of the work", runs.long_loop),
    Row("hook", "the same commit with an empty hook of the same kind", doors.hook),
    Row("action", "none", doors.action),
)
