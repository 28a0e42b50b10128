"""Steps over a change that is cut into parts: loops, the order of the results, a resume at any point."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import pytest

from aethr.base.errors import ExitCode, UsageError
from aethr.base.records import (
    Artifacts,
    Block,
    Collected,
    CommandCheck,
    Completion,
    Gate,
    Plan,
    Receipt,
    Repeat,
    Request,
    RunResult,
    StepFinished,
    StepResult,
    StepSpec,
    TextDelta,
    View,
)
from aethr.engine import stale
from aethr.engine.progress import replay
from tests.engine.test_engine import PASS, play, step
from tests.support import Script, make_plan, said


@dataclass
class ByPrompt(Script):
    """A backend whose answer depends on the prompt alone, so that the order of the calls does not matter."""

    answers: list[object] = field(default_factory=list)  # type: ignore[assignment]
    answer: Callable[[str], str | Completion] = str

    def complete(self, request: Request) -> Generator[TextDelta, None, Completion]:  # type: ignore[override]
        self.requests.append(request)
        made = self.answer(request.prompt)
        completion = said(made) if isinstance(made, str) else made
        yield TextDelta(completion.content)
        return completion


def parts(*names: str, source: str = "git_diff", missing: str = "") -> Collected:
    """A change of which each of these files is a part."""

    def block(name: str) -> Block:
        complete = name != missing
        receipt = Receipt(
            source, name, 4, sha256=name, complete=complete, changed_lines=2, sent_lines=2 * complete
        )
        return Block(source, f"diff of {name}\n", (receipt,), change=True)

    return Collected(tuple((block(name),) for name in names), len(names))


def seen(prompt: str) -> str:
    return " ".join(re.findall(r"^diff of (.*)$", prompt, re.MULTILINE))


def revise(prompt: str) -> str:
    """A finding in the part that the prompt has."""
    name = seen(prompt)
    return f"- [high] {name}:1 — wrong in {name}\nReview status: revise"


def over(
    steps: Sequence[StepSpec],
    answer: Callable[[str], str | Completion],
    collect: Callable[[View], Collected] = lambda _: parts("a", "b", "c"),
    **more: object,
) -> Plan:
    """A plan of steps, of which those with a context read a change of three parts."""
    readers = {each.id: collect for each in steps if each.context}
    return make_plan(steps, ByPrompt(answer=answer), readers, **more)


def summary(result: RunResult) -> list[tuple[str, int, int, int]]:
    return [(each.id, each.iteration, each.part, each.parts) for each in result.steps]


def reviewer(name: str = "review", **more: object) -> StepSpec:
    return step(name, "reviewer", context=("git_diff",), **more)


def alone(**more: object) -> Repeat:
    """A loop of the step ``review`` alone."""
    return Repeat(**{"back_to": "review", "max_iterations": 3, **more})


# --- loops ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "outcome"), [("DONE", "satisfied"), ("not yet", "exhausted")])
def test_a_text_must_be_in_the_answer_to_every_part(last: str, outcome: str) -> None:
    loop = step("review", context=("git_diff",), repeat=alone(until_contains="DONE", max_iterations=2))
    _, result = play(over([loop], lambda prompt: last if seen(prompt) == "c" else "DONE"))
    assert [(each.iterations, each.outcome) for each in result.loops] == [
        (1 if outcome == "satisfied" else 2, outcome)
    ]
    assert len(result.steps) == (3 if outcome == "satisfied" else 6)


def test_one_part_that_says_revise_repeats_the_loop_over_all_parts() -> None:
    bad = {"b": 1}

    def answer(prompt: str) -> str:
        bad[seen(prompt)] = bad.get(seen(prompt), 0) - 1
        return revise(prompt) if bad[seen(prompt)] == 0 else PASS

    _, result = play(over([reviewer(repeat=alone(until_review_pass=True))], answer, gate=Gate("high")))
    assert summary(result) == [("review", n, part, 3) for n in (1, 2) for part in (1, 2, 3)]
    assert (result.loops[0].outcome, result.outcome, result.exit_code) == ("satisfied", "pass", ExitCode.OK)


def test_the_command_of_a_loop_runs_once_a_pass_after_all_parts() -> None:
    ran: list[int] = []
    plan = over([reviewer(repeat=alone(until_command_passes="make"))], lambda _: PASS)
    requests = plan.steps[0].backend.requests  # type: ignore[attr-defined]

    def check() -> CommandCheck:
        ran.append(len(requests))
        return CommandCheck("make", passed=len(ran) == 2, ended="exit code 0")

    _, result = play(plan._replace(steps=(plan.steps[0]._replace(check=check),)))
    assert ran == [3, 6]
    assert [each.check is not None for each in result.steps] == [False, False, True] * 2
    assert result.loops[0].outcome == "satisfied"


AGENT = step("implement", "implementer", backend="agent")
FIX = Repeat("implement", 4, until_review_pass=True)


def fixing(edits: Sequence[bool], cuts: Sequence[Sequence[str]], answer: Callable[[str], str]) -> RunResult:
    """A loop of an agent and a reviewer of ``latest_diff``, which is cut into other parts in each pass."""
    passes = iter(edits)

    def backend(prompt: str) -> str | Completion:
        if "You implementer." in prompt:
            return said("edited", *(("a",) if next(passes) else ()), edited=True)
        return answer(prompt)

    def collect(view: View) -> Collected:
        made = sum(each.artifacts is not None for each in view.history)
        return parts(*cuts[max(made, 1) - 1], source="latest_diff")

    steps = [AGENT, step("review", "reviewer", context=("latest_diff",), repeat=FIX)]
    return play(make_plan(steps, ByPrompt(answer=backend), {"review": collect}))[1]


def test_what_an_agent_changed_is_cut_anew_in_each_pass() -> None:
    result = fixing(
        [True, True],
        [["a", "b"], ["c", "d", "e"]],
        lambda prompt: revise(prompt) if seen(prompt) == "b" else PASS,
    )
    assert summary(result) == [
        ("implement", 1, 1, 1), ("review", 1, 1, 2), ("review", 1, 2, 2),
        ("implement", 2, 1, 1), ("review", 2, 1, 3), ("review", 2, 2, 3), ("review", 2, 3, 3),
    ]  # fmt: skip
    assert (result.loops[0].outcome, result.outcome) == ("satisfied", "pass")


def test_a_pass_without_an_edit_is_stalled_by_the_findings_of_all_parts_together() -> None:
    """The same finding comes from another part: the change is cut in other places."""
    cuts = [["a", "b"], ["b", "a", "c"]]
    result = fixing([True, False], cuts, lambda prompt: revise(prompt) if seen(prompt) == "a" else PASS)
    assert [(each.iterations, each.outcome) for each in result.loops] == [(2, "stalled")]


def test_an_agent_sees_the_findings_of_all_parts() -> None:
    prompts: list[str] = []

    def answer(prompt: str) -> str | Completion:
        if "You implementer." in prompt:
            prompts.append(prompt)
            return said("edited", "a")
        return revise(prompt) if len(prompts) < 2 else PASS

    steps = [AGENT, reviewer(repeat=FIX)]
    play(make_plan(steps, ByPrompt(answer=answer), {"review": lambda _: parts("a", "b", "c")}))
    assert re.findall(r"wrong in (\w)", prompts[1]) == ["a", "b", "c"]
    assert "pass 1, part 2 of 3" in prompts[1]


def test_what_an_agent_was_not_sent_makes_the_run_incomplete() -> None:
    agent = AGENT._replace(context=("git_diff",))
    steps = [agent, step("review", "reviewer", context=("latest_diff",))]
    collect = {
        "implement": lambda _: parts("a", missing="a"),
        "review": lambda _: parts("a", source="latest_diff"),
    }
    answers = [said("edited", "a"), PASS]
    _, result = play(make_plan(steps, Script(answers), collect, gate=Gate("high")))  # type: ignore[arg-type]
    assert (result.outcome, result.exit_code) == ("incomplete", ExitCode.NOT_REVIEWED)


# --- resume --------------------------------------------------------------------------------------

STEPS = (
    step("think", context=("git_diff",)),
    reviewer(repeat=Repeat("think", 2, until_review_pass=True)),
    step("tell"),
)


def reply(prompt: str) -> str:
    """The second pass is right: it sees the finding of the first one."""
    if "You reviewer." in prompt and seen(prompt) == "b" and "wrong in b" not in prompt:
        return revise(prompt)
    return PASS if "You reviewer." in prompt else f"about {seen(prompt)}"


def untimed(results: Sequence[StepResult]) -> list[StepResult]:
    return [each._replace(seconds=0.0) for each in results]


@pytest.mark.parametrize("made", range(14))
def test_a_resume_after_any_part_makes_only_the_missing_calls(made: int) -> None:
    _, whole = play(over(STEPS, reply, gate=Gate("high")))
    assert len(whole.steps) == 13
    plan = over(STEPS, reply, gate=Gate("high"))
    events, result = play(plan, whole.steps[:made])
    assert len(plan.steps[0].backend.requests) == 13 - made  # type: ignore[attr-defined]
    replayed = [event.replayed for event in events if isinstance(event, StepFinished)]
    assert replayed == [n < made for n in range(13)]
    assert untimed(result.steps) == untimed(whole.steps)
    assert (result.outcome, result.loops, result.exit_code) == (whole.outcome, whole.loops, whole.exit_code)


def test_parts_count_in_any_order_and_the_record_has_theirs() -> None:
    _, whole = play(over(STEPS, reply))
    mixed = [whole.steps[2], whole.steps[0], whole.steps[1], *whole.steps[3:5]]
    _, result = play(over(STEPS, reply), mixed)
    assert untimed(result.steps) == untimed(whole.steps)


def test_the_parts_of_a_cut_file_are_the_same_change_in_any_order() -> None:
    def cut(_: View) -> Collected:
        found = parts("a", "b", "c").parts
        receipts = (block.receipts[0]._replace(path="large.py") for [block] in found)
        return Collected(
            tuple((block._replace(receipts=(own,)),) for [block], own in zip(found, receipts, strict=True)),
            3,
        )

    _, whole = play(over([reviewer()], lambda _: PASS, cut))
    for order in permutations(whole.steps):
        assert stale.saw_another_change(over([reviewer()], lambda _: PASS, cut), order) is None
    other = [each._replace(context=whole.steps[0].context) for each in whole.steps]
    assert stale.saw_another_change(over([reviewer()], lambda _: PASS, cut), other) == "review"


@pytest.mark.parametrize(
    "change",
    [{"part": 4}, {"part": 2}, {"parts": 2}, {"parts": 4}, {"iteration": 2}, {"id": "review"}],
    ids=str,
)
def test_a_part_that_does_not_fit_beside_the_others_is_refused(change: dict[str, object]) -> None:
    done = list(play(over(STEPS, reply))[1].steps[:3])
    done[2] = done[2]._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="does not fit the workflow"):
        play(over(STEPS, reply), done)
    with pytest.raises(UsageError, match="does not fit the workflow"):
        replay(over(STEPS, reply), done)


# --- several reviewers -----------------------------------------------------------------------------

LOST = "Off by one: the loop stops at len(rows) - 1 and never exports the last row"
UNEXPORTED = "The last row is not exported, because the loop ends at `len(rows) - 1`"
OTHER = "The session token is logged in clear text at INFO level"
ENDS = ("Review status: pass", "Review status: revise", "Review status: pass", "I am not sure.", "")


def make_review(seeded: random.Random) -> str:
    lines = []
    for _ in range(seeded.randrange(3)):
        severity = seeded.choice(["high", "medium", "low", "low"])
        message = seeded.choice([LOST, LOST, UNEXPORTED, OTHER])
        lines.append(f"- [{severity}] a:{seeded.choice(['1', '1-2', '4'])} — {message}")
    return "\n".join([*lines, "", seeded.choice(ENDS)])


def run_panel(
    answers: Mapping[tuple[str, str], str], steps: Sequence[str], files: Sequence[str], gate: Gate
) -> RunResult:
    """Reviewers with these ids and in this order, over these files, each of which is a part."""

    def answer(prompt: str) -> str:
        [name] = [each for each in steps if f'"{each}"' in prompt] or [""]
        return answers.get((name, seen(prompt)), "I cannot say more.")

    planned = [reviewer(each, history_visibility="none") for each in steps]
    return play(over(planned, answer, lambda _: parts(*files), gate=gate, holds=lambda _: True))[1]


@pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60))]
)
def test_neither_verdict_nor_findings_depend_on_the_order_of_steps_and_parts(seed: int) -> None:
    seeded = random.Random(seed)
    steps, files = ["one", "two", "three"][: seeded.randrange(2, 4)], ["a", "b"][: seeded.randrange(1, 3)]
    answers = {(step, file): make_review(seeded) for step in steps for file in files}
    gate = Gate(seeded.choice(["revise", "low", "medium", "high"]), require_review=seeded.random() < 0.5)

    def decide(order: Sequence[str], files: Sequence[str]) -> object:
        result = run_panel(answers, order, files, gate)
        found = {
            (
                each.severity,
                each.line,
                each.end_line,
                each.message,
                frozenset(each.by),
                frozenset((frozenset(also.by), also.severity, also.message) for also in each.also),
            )
            for each in result.review.findings
        }
        assert len(found) == len(result.review.findings)
        return result.exit_code, result.outcome, result.review.status, found

    orders = [(step, file) for step in permutations(steps) for file in permutations(files)]
    first, *others = [decide(*order) for order in orders]
    assert all(other == first for other in others)


def test_the_findings_of_steps_and_parts_are_one_list() -> None:
    answers = {
        ("one", "a"): f"- [low] a:1 — {LOST}\n\nReview status: pass",
        ("two", "a"): f"- [medium] a:1 — {UNEXPORTED}\n\nReview status: revise",
        ("one", "b"): f"- [low] a:1-2 — {LOST}\n- [low] a:1 — {OTHER}\n\nReview status: pass",
        ("two", "b"): "Review status: pass",
    }
    result = run_panel(answers, ["one", "two"], ["a", "b"], Gate("medium"))
    first, second = result.review.findings
    assert (first.severity, first.message, first.by) == ("medium", UNEXPORTED, ("one", "two"))
    assert [(each.by, each.severity, each.message) for each in first.also] == [(("one",), "low", LOST)]
    assert (second.message, second.by, second.also) == (OTHER, ("one",), ())
    assert result.exit_code == ExitCode.GATE


def test_a_reviewer_without_a_verdict_never_agrees() -> None:
    answers = {("one", "a"): "Review status: pass", ("two", "a"): "I am not sure."}
    for order in (["one", "two"], ["two", "one"]):
        result = run_panel(answers, order, ["a"], Gate("high"))
        assert (result.outcome, result.exit_code) == ("incomplete", ExitCode.NOT_REVIEWED)


def test_a_loop_stalls_on_the_same_defects_in_other_words_of_other_parts() -> None:
    """What is compared is the merged list: which part says it, and what the others write, does not count."""
    passes = iter([{"a": LOST, "b": UNEXPORTED}, {"a": UNEXPORTED, "b": LOST}])
    now: dict[str, str] = {}

    def answer(prompt: str) -> str | Completion:
        if "You implement" in prompt:
            now.update(next(passes))
            return said("nothing to do", edited=False, artifacts=Artifacts())
        return f"- [high] a:1 — {now[seen(prompt)]}\n\nReview status: revise"

    steps = [
        step("implement", "implement", backend="agent"),
        reviewer(repeat=Repeat("implement", 5, until_review_pass=True)),
    ]
    _, result = play(over(steps, answer, lambda _: parts("a", "b"), holds=lambda _: True))
    assert [(each.iterations, each.outcome) for each in result.loops] == [(2, "stalled")]
