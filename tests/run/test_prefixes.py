"""Whole runs against a server with a prefix cache: what they read from it, and what they do not write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.live import PASS, REVISE, TASK, Aethr, aethr, project, serving, temp
from tests.prefix_cache import Automatic, Counted, Marked, PrefixCache, counting, parts_of, text_of
from tests.support import Repo

__all__ = ["aethr", "project", "temp"]

CLAUDE = "openrouter:anthropic/claude-sonnet-5-5"
LOOP = """\
workflow: loop
roles: {planner: "Plan.", writer: "Write.", reviewer: "Review."}
models: {planner: MODEL, writer: MODEL, reviewer: MODEL}
steps:
  - {id: plan, role: planner, context: &all [git_diff, file:README.md]}
  - {id: write, role: writer, context: *all}
  - id: review
    role: reviewer
    context: *all
    repeat: {back_to: write, until_review_pass: true, max_iterations: 3}
"""


@pytest.fixture
def large(project: Repo) -> Repo:
    """A change of some 30,000 characters."""
    project.write(
        "app.py", "".join(f"x_{number} = {number}  # a line of the change\n" for number in range(900))
    )
    return project


def answer(prompt: str) -> str:
    """Words of its own for each prompt, and never a pass."""
    return f"An answer to {len(prompt):,} characters.\n\n" + (
        REVISE if "Review status" in prompt else "Done."
    )


def run(
    aethr: Aethr, monkeypatch: pytest.MonkeyPatch, cache: PrefixCache, *words: str
) -> tuple[list[Counted], list[Mapping[str, Any]], Mapping[str, Any]]:
    """The counts of a run's calls, their bodies, and its totals."""
    counts: list[Counted] = []
    with serving(monkeypatch, always=counting(cache, answer, counts)) as server:
        done = aethr("run", "--json", *words, TASK)
    assert done.code == 0, done.err
    return counts, server.bodies, done.record["totals"]


@pytest.mark.parametrize(("cache", "model"), [(Marked, CLAUDE), (Automatic, "openai:gpt-5.4-mini")])
def test_the_steps_of_a_loop_read_the_context_from_the_cache(
    aethr: Aethr,
    large: Repo,
    monkeypatch: pytest.MonkeyPatch,
    cache: Callable[[], PrefixCache],
    model: str,
) -> None:
    large.write(".aethr.yaml", LOOP.replace("MODEL", f'"{model}"'))
    counts, bodies, totals = run(aethr, monkeypatch, cache())
    assert len(counts) == 7  # the plan, and three times a draft and its review
    first, *later = counts
    assert first.cached == 0
    before_role = [text_of(body).index("# Your step") // 4 for body in bodies]
    for counted, possible in zip(later, before_role, strict=False):  # all that the call before it had
        assert possible - counted.cached < 300, counts
    assert sum(each.cached for each in counts) > 0.8 * sum(each.prompt for each in counts)
    assert totals["prompt_tokens"] == sum(each.prompt for each in counts)
    assert totals["cached_tokens"] == sum(each.cached for each in counts)
    assert (totals["written_tokens"] or 0) == sum(each.written for each in counts)


def test_a_mark_is_written_only_where_a_later_call_reads_it(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.write(".aethr.yaml", LOOP.replace("MODEL", f'"{CLAUDE}"'))
    counts, bodies, _ = run(aethr, monkeypatch, Marked())
    assert counts[-1].written == 0
    marked = [sum(len(part["text"]) for part in parts_of(body)[:-1]) for body in bodies]
    texts = [text_of(body) for body in bodies]
    for number, (end, text) in enumerate(zip(marked, texts, strict=True)):
        others = texts[:number] + texts[number + 1 :]
        assert any(other.startswith(text[:end]) for other in others)
    single, _, _ = run(aethr, monkeypatch, Marked(), "--preset", "review-existing-diff", "--model", CLAUDE)
    assert [each.written for each in single] == [0]


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_reviewers_of_a_change_in_parts_read_each_part_once(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    """Every part is written once, by the first reviewer of it; the other two read it."""
    large.git("checkout", "-q", "app.py")
    for number in range(6):
        large.write(f"f{number}.py", f"value = {number}  # a line of the change\n" * 400)
    large.git("add", "-A")
    step = "{{id: {0}, role: {0}, review: true, context: [git_diff], history_visibility: none}}"
    names = ("correct", "safe", "tested")
    large.write(
        ".aethr.yaml",
        "workflow: three\nlimits: {context_chars: 20000}\n"
        + f"roles: {{{', '.join(f'{name}: Look.' for name in names)}}}\n"
        + f"models: {{{', '.join(f'{name}: {chr(34)}{CLAUDE}{chr(34)}' for name in names)}}}\n"
        + "steps:\n"
        + "".join(f"  - {step.format(name)}\n" for name in names),
    )
    words = ("--diff", "staged", "--jobs", str(jobs))
    counts, bodies, _ = run(aethr, monkeypatch, Marked(), *words)
    parts = {re.findall(r"^\+\+\+ b/(\S+)$", text_of(body), re.MULTILINE)[0] for body in bodies}
    assert (len(counts), len(parts)) == (18, 6)
    assert sum(each.written > 0 for each in counts) == 6
    assert sum(each.cached > 4000 for each in counts) == 12


def test_reviewers_at_once_neither_write_nor_wait(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of three calls that run at the same time could read what another one has written."""
    del large
    words = ("--preset", "review-thorough", "--model", CLAUDE)
    counts, bodies, _ = run(aethr, monkeypatch, Marked(), *words)
    assert len(counts) == 4
    by_verifier = [text_of(body).count("Findings to check") for body in bodies]
    assert [each.written > 0 for each in counts].count(True) == 1  # for the verifier, which follows
    assert counts[-1].cached > 5000
    assert by_verifier == [0, 0, 0, 1]


def test_the_question_for_a_verdict_is_not_marked(
    aethr: Aethr, large: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.write(".aethr.yaml", LOOP.replace("MODEL", f'"{CLAUDE}"'))
    said = iter(["A plan.", "A draft.", "No verdict.", PASS])
    counts: list[Counted] = []
    with serving(monkeypatch, always=counting(Marked(), lambda _: next(said), counts)) as server:
        assert aethr("run", TASK).code == 0
    assert [len(parts_of(body)) > 1 for body in server.bodies] == [True, True, True, False]
