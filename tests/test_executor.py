"""The loop: what runs next, what a step sees, what a resume calls, how a run ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aethr import executor
from aethr.errors import ExitCode, ModelError, UsageError
from aethr.records import (
    Allowance,
    Artifacts,
    Block,
    Event,
    Gate,
    LoopEnded,
    Notice,
    Plan,
    Receipt,
    Repeat,
    RunFinished,
    RunResult,
    StepFinished,
    StepResult,
    StepSpec,
    StepStarted,
    TextDelta,
    Usage,
    View,
)
from tests.support import Answer, Script, make_plan, said

PASS = "Review status: pass"
REVISE = "- [high] a.py:1 — wrong\nReview status: revise"


def step(name: str, role: str = "worker", **more: object) -> StepSpec:
    return StepSpec(name, role, 1000, **more)


def review_loop(**more: object) -> Repeat:
    return Repeat(**{"back_to": "implement", "max_iterations": 3, "until_review_pass": True, **more})


LOOP = (
    step("plan", "planner"),
    step("implement", "implementer", backend="agent"),
    step("review", "reviewer", repeat=review_loop()),
    step("report", "writer"),
)


def play(plan: Plan, done: Sequence[StepResult] = ()) -> tuple[list[Event], RunResult]:
    events = list(executor.run(plan, done, clock=iter(range(1000)).__next__))
    assert isinstance(events[-1], RunFinished)
    return events, events[-1].result


def run(steps: Sequence[StepSpec], answers: list[Answer], **more: object) -> RunResult:
    return play(make_plan(steps, Script(answers), **more))[1]


def turns(result: RunResult) -> list[tuple[str, int]]:
    return [(each.id, each.iteration) for each in result.steps]


def test_steps_run_in_order_and_each_once() -> None:
    result = run([step("a"), step("b")], ["one", "two"])
    assert [(each.id, each.content) for each in result.steps] == [("a", "one"), ("b", "two")]
    assert (result.totals.calls, result.totals.prompt_tokens, result.totals.completion_tokens) == (2, 20, 4)
    assert result.totals.cost_usd == pytest.approx(0.02)
    assert result.exit_code is ExitCode.OK


def test_a_loop_goes_back_until_the_review_passes() -> None:
    answers: list[Answer] = ["plan", said("1", "a.py"), REVISE, said("2", "a.py"), PASS, "report"]
    result = run(LOOP, answers)
    assert turns(result) == [
        ("plan", 1),
        ("implement", 1),
        ("review", 1),
        ("implement", 2),
        ("review", 2),
        ("report", 1),
    ]
    assert [(loop.iterations, loop.outcome) for loop in result.loops] == [(2, "satisfied")]
    assert result.review.status == "pass"


def test_a_loop_stops_at_its_bound_as_exhausted_and_the_run_goes_on() -> None:
    answers: list[Answer] = ["plan"]
    for number in range(3):
        answers += [said(str(number), "a.py"), REVISE.replace("wrong", f"wrong {number}")]
    result = run(LOOP, [*answers, "report"])
    assert [(loop.iterations, loop.outcome) for loop in result.loops] == [(3, "exhausted")]
    assert turns(result)[-1] == ("report", 1)


def test_nothing_changed_and_the_same_findings_is_stalled_without_another_pass() -> None:
    answers: list[Answer] = ["plan", said("1", "a.py"), REVISE, said("2", edited=True), REVISE, "report"]
    result = run(LOOP, answers)
    assert [(loop.iterations, loop.outcome) for loop in result.loops] == [(2, "stalled")]


@pytest.mark.parametrize("second", [said("2", "a.py"), said("2", edited=True)])
def test_a_change_or_another_finding_is_no_stall(second: Answer) -> None:
    other = REVISE if second.artifacts.changed_files else REVISE.replace("wrong", "another")
    answers: list[Answer] = ["plan", said("1", "a.py"), REVISE, second, other, said("3", "a.py"), PASS, "r"]
    assert run(LOOP, answers).loops[0].outcome == "satisfied"


def test_until_contains_and_both_conditions_together() -> None:
    both = review_loop(back_to="review", until_contains="DONE")
    result = run([step("review", "reviewer", repeat=both)], [PASS, f"DONE\n{REVISE}", f"DONE\n{PASS}"])
    assert result.loops[0].iterations == 3


def test_two_loops_in_a_row_count_their_own_passes() -> None:
    first = step("b", repeat=Repeat("a", 2, until_contains="never"))
    second = step("d", repeat=Repeat("c", 2, until_contains="never"))
    result = run([step("a"), first, step("c"), second], ["x"] * 8)
    assert turns(result) == [(name, n) for pair in ("ab", "cd") for n in (1, 2) for name in pair]


def test_a_cut_answer_satisfies_no_loop() -> None:
    cut = said(f"{PASS}", truncated=True, finish_reason="length")
    only = step("review", "reviewer", repeat=review_loop(back_to="review", max_iterations=2))
    assert run([only], [cut, cut]).loops[0].outcome == "exhausted"


@pytest.mark.parametrize(
    ("visibility", "seen"),
    [("all", ["one", "two"]), ("latest", ["two"]), ("summary", ["one", "two"]), ("none", [])],
)
def test_history_visibility(visibility: str, seen: list[str]) -> None:
    script = Script(["one", "two", "three"])
    play(make_plan([step("a"), step("b"), step("c", history_visibility=visibility)], script))
    assert [word for word in ("one", "two") if f"\n{word}\n" in script.requests[2].prompt] == seen


def test_the_prompt_hash_is_that_of_the_text_sent_and_the_preview_agrees() -> None:
    script = Script(["one", "two"])
    plan = make_plan([step("a"), step("b")], script)
    shown = list(executor.preview(plan))
    assert script.requests == []
    _, result = play(plan)
    assert shown[0].prompt == script.requests[0].prompt
    assert shown[0].prompt_sha256 == result.steps[0].prompt_sha256
    assert "(The answer of the step 'a' will stand here.)" in shown[1].prompt


def test_a_review_without_a_verdict_is_asked_for_it_once() -> None:
    script = Script(["It looks fine.", PASS])
    events, result = play(make_plan([step("review", "reviewer")], script))
    assert "It looks fine." in script.requests[1].prompt
    assert len(script.requests[1].prompt) < 1500
    assert result.steps[0].calls == 2
    assert result.steps[0].usage.total_tokens == 24
    assert result.review.status == "pass"
    assert any(isinstance(event, Notice) and event.kind == "warning" for event in events)


def test_no_verdict_after_asking_is_no_verdict() -> None:
    result = run([step("review", "reviewer")], ["Fine.", "As I said."], gate=Gate("high"))
    assert (result.review.status, result.exit_code) == ("none", ExitCode.NOT_REVIEWED)


def test_the_answer_is_kept_when_asking_again_fails() -> None:
    result = run([step("review", "reviewer")], ["Fine.", ModelError("down")])
    assert (result.steps[0].content, result.steps[0].calls) == ("Fine.", 1)


@pytest.mark.parametrize("made", range(7))
def test_a_resume_makes_exactly_the_missing_calls_and_ends_the_same(made: int) -> None:
    answers: list[Answer] = ["plan", said("1", "a.py"), REVISE, said("2", "a.py"), PASS, "report"]
    whole = run(LOOP, list(answers))
    script = Script(list(answers[made:]))
    events, result = play(make_plan(LOOP, script), whole.steps[:made])
    assert len(script.requests) == 6 - made
    assert [event.replayed for event in events if isinstance(event, StepFinished)] == [
        number < made for number in range(6)
    ]
    untimed = [each._replace(seconds=0.0) for each in result.steps]
    assert untimed == [each._replace(seconds=0.0) for each in whole.steps]
    assert (result.loops, result.review, result.exit_code) == (whole.loops, whole.review, whole.exit_code)


def test_a_checkpoint_in_another_order_is_refused() -> None:
    done = run([step("a"), step("b")], ["one", "two"]).steps
    with pytest.raises(UsageError, match=r"has step 'b' .* where 'a'"):
        play(make_plan([step("a"), step("b")], Script([])), done[1:])


def test_a_failing_step_leaves_the_finished_ones_yielded() -> None:
    seen: list[Event] = []
    events = executor.run(make_plan([step("a"), step("b")], Script(["one", ModelError("down")])))
    with pytest.raises(ModelError, match="down"):
        seen.extend(event for event in events if seen.append(event))
    assert [event.result.content for event in seen if isinstance(event, StepFinished)] == ["one"]


def change(*, empty: bool = False, complete: bool = True) -> Block:
    receipt = Receipt(
        "git_diff", None if empty else "a.py", 0, complete=complete, changed_lines=0 if empty else 2
    )
    return Block("git_diff", "(no changes)" if empty else "diff", (receipt,), empty_change=empty)


def test_a_required_review_of_nothing_makes_no_call() -> None:
    script = Script([])
    plan = make_plan(
        [step("review", "reviewer")], script, {"review": lambda _: (change(empty=True),)}, gate=Gate("high")
    )
    events, result = play(plan)
    assert script.requests == []
    assert (result.review.reason, result.exit_code) == ("nothing changed", ExitCode.OK)
    assert not any(isinstance(event, StepStarted) for event in events)


def test_without_a_gate_the_task_is_run_also_when_nothing_changed() -> None:
    collect = {"review": lambda _: (change(empty=True),)}
    assert run([step("review", "reviewer")], [PASS], collect=collect).totals.calls == 1


def test_what_a_step_may_still_change_is_not_nothing() -> None:
    collect = {"review": lambda _: (change(empty=True),)}
    answers: list[Answer] = [said("edited", "a.py"), PASS]
    steps = [step("implement", backend="agent"), step("review", "reviewer")]
    assert run(steps, answers, collect=collect, gate=Gate("high")).totals.calls == 2


def test_the_context_of_the_first_step_is_collected_once() -> None:
    views: list[View] = []

    def collect(view: View) -> tuple[Block, ...]:
        views.append(view)
        return (change(),)

    run([step("review", "reviewer")], [PASS], collect={"review": collect}, gate=Gate("high"))
    assert len(views) == 1


def test_what_is_left_of_the_allowance_goes_with_each_request() -> None:
    script = Script(["one", "two"])
    play(make_plan([step("a"), step("b")], script, allowance=Allowance(1.0, 100)))
    assert [(r.allowance.cost_usd, r.allowance.tokens) for r in script.requests] == [(1.0, 100), (0.99, 88)]


def test_the_value_of_a_key_is_in_no_prompt_no_answer_no_diff_and_no_delta() -> None:
    secret = "sk-0123456789abcdef"
    leak = said(f"the key is {secret}", "a.py")
    leak = leak._replace(artifacts=Artifacts(("a.py",), "", f"+{secret}"))
    script = Script([leak])
    plan = make_plan(
        [step("a", backend="agent")],
        script,
        {"a": lambda _: (Block("file:x", f"key = {secret}"),)},
        secrets=(secret,),
    )
    events, result = play(plan)
    assert secret not in script.requests[0].prompt
    assert secret not in repr(result)
    assert secret not in "".join(event.text for event in events if isinstance(event, TextDelta))


def test_loop_events_follow_the_step_that_ended_it() -> None:
    events, _ = play(make_plan([step("a", repeat=Repeat("a", 1, until_contains="x"))], Script(["x"])))
    kinds = [type(event) for event in events]
    assert kinds.index(LoopEnded) == kinds.index(StepFinished) + 1


def test_what_failed_attempts_were_counted_for_is_in_the_steps_usage_and_leaves_less_for_the_next() -> None:
    script = Script(["no verdict", PASS, "a report"], failed=Usage(100, 20, 120, 0.5))
    steps = (step("review", "reviewer"), step("report", "writer"))
    result = play(make_plan(steps, script, allowance=Allowance(tokens=1000)))[1]
    assert result.steps[0].usage == Usage(220, 44, 264, 1.02)
    assert (result.totals.prompt_tokens, result.totals.completion_tokens) == (330, 66)
    assert [request.allowance.tokens for request in script.requests] == [1000, 868, 736]


def test_a_second_question_that_failed_is_counted_too() -> None:
    script = Script(["no verdict", ModelError("it failed")], failed=Usage(100, 20, 120, 0.5))
    result = play(make_plan((step("review", "reviewer"),), script))[1]
    assert result.steps[0].usage == Usage(210, 42, 252, 1.01)


@pytest.mark.parametrize("cut", [0, 1], ids=["the first", "the second"])
def test_a_cut_prompt_of_either_question_makes_the_review_incomplete(cut: int) -> None:
    answers: list[Answer] = [said("no verdict"), said(PASS)]
    answers[cut] = said(PASS if cut else "no verdict", cut_prompt="the server counted 40 tokens")
    result = run((step("review", "reviewer"),), answers, gate=Gate("revise"))
    assert result.steps[0].cut_prompt == "the server counted 40 tokens"
    assert result.exit_code == ExitCode.NOT_REVIEWED
    assert "was not read whole" in (result.review.reason or "")
