"""The loop: what runs next, what a step sees, what a resume calls, how a run ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from aethr import engine
from aethr.base.errors import ExitCode, ModelError, UsageError
from aethr.base.records import (
    Allowance,
    Artifacts,
    Block,
    Collected,
    CommandCheck,
    Event,
    Extent,
    Gate,
    LoopEnded,
    Notice,
    Plan,
    Receipt,
    Repeat,
    RunFinished,
    RunResult,
    RunStarted,
    Scope,
    Skipped,
    StepFinished,
    StepResult,
    StepSpec,
    Subject,
    TextDelta,
    Usage,
    View,
)
from aethr.engine import stale
from aethr.review import NOTHING_CHANGED, Verdict
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
    events = list(engine.run(plan, done, clock=iter(range(1000)).__next__))
    assert isinstance(events[-1], RunFinished)
    return events, events[-1].result


def run(steps: Sequence[StepSpec], answers: list[Answer], **more: object) -> RunResult:
    return play(make_plan(steps, Script(answers), **more))[1]


def turns(result: RunResult) -> list[tuple[str, int]]:
    return [(each.id, each.iteration) for each in result.steps]


def test_steps_run_once_and_in_order() -> None:
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


def test_a_loop_is_exhausted_at_its_limit_and_the_run_continues() -> None:
    answers: list[Answer] = ["plan"]
    for number in range(3):
        answers += [said(str(number), "a.py"), REVISE.replace("wrong", f"wrong {number}")]
    result = run(LOOP, [*answers, "report"])
    assert [(loop.iterations, loop.outcome) for loop in result.loops] == [(3, "exhausted")]
    assert turns(result)[-1] == ("report", 1)


def test_a_loop_with_no_edit_and_the_same_findings_is_stalled() -> None:
    answers: list[Answer] = ["plan", said("1", "a.py"), REVISE, said("2", edited=True), REVISE, "report"]
    result = run(LOOP, answers)
    assert [(loop.iterations, loop.outcome) for loop in result.loops] == [(2, "stalled")]


@pytest.mark.parametrize("second", [said("2", "a.py"), said("2", edited=True)])
def test_an_edit_or_a_new_finding_does_not_stall_a_loop(second: Answer) -> None:
    other = REVISE if second.artifacts.changed_files else REVISE.replace("wrong", "another")
    answers: list[Answer] = ["plan", said("1", "a.py"), REVISE, second, other, said("3", "a.py"), PASS, "r"]
    assert run(LOOP, answers).loops[0].outcome == "satisfied"


def test_a_loop_with_two_conditions_needs_both() -> None:
    both = review_loop(back_to="review", until_contains="DONE")
    result = run([step("review", "reviewer", repeat=both)], [PASS, f"DONE\n{REVISE}", f"DONE\n{PASS}"])
    assert result.loops[0].iterations == 3


def test_two_loops_count_their_passes_separately() -> None:
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


def test_the_prompt_hash_is_of_the_text_that_is_sent() -> None:
    script = Script(["one", "two"])
    plan = make_plan([step("a"), step("b")], script)
    shown = list(engine.preview(plan))
    assert script.requests == []
    _, result = play(plan)
    assert shown[0].prompt == script.requests[0].prompt
    assert shown[0].prompt_sha256 == result.steps[0].prompt_sha256
    assert "(The answer of the step 'a' will stand here.)" in shown[1].prompt


def test_a_review_without_a_verdict_is_asked_once_more() -> None:
    script = Script(["It looks fine.", PASS])
    events, result = play(make_plan([step("review", "reviewer")], script))
    assert "It looks fine." in script.requests[1].prompt
    assert len(script.requests[1].prompt) < 1500
    assert result.steps[0].calls == 2
    assert result.steps[0].usage.total_tokens == 24
    assert result.review.status == "pass"
    assert any(isinstance(event, Notice) and event.kind == "warning" for event in events)


def test_no_verdict_after_asking_again_stays_none() -> None:
    result = run([step("review", "reviewer")], ["Fine.", "As I said."], gate=Gate("high"))
    assert (result.review.status, result.exit_code) == ("none", ExitCode.NOT_REVIEWED)


def test_the_answer_is_kept_when_asking_again_fails() -> None:
    result = run([step("review", "reviewer")], ["Fine.", ModelError("down")])
    assert (result.steps[0].content, result.steps[0].calls) == ("Fine.", 1)


@pytest.mark.parametrize("made", range(7))
def test_a_resume_makes_only_the_missing_calls(made: int) -> None:
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


def test_a_failing_step_comes_after_the_finished_ones() -> None:
    seen: list[Event] = []
    events = engine.run(make_plan([step("a"), step("b")], Script(["one", ModelError("down")])))
    with pytest.raises(ModelError, match="down"):
        seen.extend(event for event in events if seen.append(event))
    assert [event.result.content for event in seen if isinstance(event, StepFinished)] == ["one"]


def change(source: str = "git_diff") -> Block:
    receipt = Receipt(source, "a.py", 4, sha256="a", changed_lines=2, sent_lines=2)
    return Block(source, "diff", (receipt,), change=True)


def no_change(source: str = "git_diff", *, missing: str = "") -> Block:
    notes = [Receipt(source, None, 0, note="no changes")]
    notes += [Receipt(source, None, 0, note=missing, complete=False)] if missing else []
    return Block(source, "[no changes]\n", tuple(notes), change=False)


def one_part(*blocks: Block) -> Collected:
    extents = (
        Extent(1, 1, 1) if block.change else Extent() for block in blocks if block.source == "git_diff"
    )
    return Collected((blocks,), extent=next(extents, None))


def reading(*blocks: Block) -> Callable[[View], Collected]:
    return lambda _: one_part(*blocks)


DIFF, LATEST = ("git_diff",), ("latest_diff",)
GATES = [Gate(), Gate("high"), Gate("revise"), Gate(require_review=True)]


@pytest.mark.parametrize("gate", GATES)
def test_a_review_of_an_empty_change_makes_no_call(gate: Gate) -> None:
    script = Script([])
    collect = {"review": reading(no_change())}
    _, result = play(make_plan([step("review", "reviewer", context=DIFF)], script, collect, gate=gate))
    assert script.requests == []
    assert (Verdict(result.review, result.outcome), result.exit_code) == (NOTHING_CHANGED, ExitCode.OK)
    assert (result.steps, result.skipped) == ((), (Skipped("review", 1, "no changes"),))
    assert result.totals.cost_usd == 0


def test_other_steps_run_without_a_skipped_review_in_the_prompt() -> None:
    script = Script(["plan", "report"])
    steps = [
        step("plan", context=(*DIFF, "file:README.md")),
        step("review", "reviewer", context=DIFF),
        step("report"),
    ]
    collect = {name: reading(no_change()) for name in ("plan", "review")}
    _, result = play(make_plan(steps, script, collect, gate=Gate("high")))
    assert [each.id for each in result.steps] == ["plan", "report"]
    assert "[no changes]" in script.requests[0].prompt
    assert "review (reviewer)" not in script.requests[1].prompt
    assert (Verdict(result.review, result.outcome), result.exit_code) == (NOTHING_CHANGED, ExitCode.OK)


def test_steps_that_only_read_an_empty_change_are_not_called() -> None:
    steps = [step("explain", context=DIFF), step("review", "reviewer", context=DIFF)]
    collect = {name: reading(no_change()) for name in ("explain", "review")}
    result = run(steps, [], collect=collect)
    assert [each.step for each in result.skipped] == ["explain", "review"]
    more = [steps[0], steps[1]._replace(context=(*DIFF, "file:README.md"))]
    assert run(more, ["explained"], collect=collect).totals.calls == 1


def test_a_review_with_files_but_no_change_is_not_called() -> None:
    notes = Block("file:notes.md", "notes", (Receipt("file:notes.md", None, 0, complete=False, note="gone"),))
    steps = [step("review", "reviewer", context=(*DIFF, "file:notes.md"))]
    result = run(steps, [], collect={"review": reading(no_change(), notes)}, gate=Gate("high"))
    assert (result.totals.calls, result.exit_code) == (0, ExitCode.OK)


def test_a_review_with_one_of_two_changes_is_called() -> None:
    steps = [
        step("implement", backend="agent"),
        step("review", "reviewer", context=(*DIFF, *LATEST)),
    ]
    collect = {"review": reading(no_change(), change("latest_diff"))}
    assert run(steps, [said("1", "a.py"), PASS], collect=collect).review.status == "pass"


def test_a_review_without_a_change_in_its_context_is_called() -> None:
    steps = [step("review", "reviewer", context=("file:a.py",))]
    collect = {"review": reading(Block("file:a.py", "text"))}
    assert run(steps, [PASS], collect=collect).totals.calls == 1


def test_a_change_outside_of_the_scope_is_not_reviewed() -> None:
    steps = [step("review", "reviewer", context=DIFF)]
    collect = {"review": reading(no_change(missing="untracked: new.py"))}
    result = run(steps, [], collect=collect, gate=Gate("high"))
    assert (result.totals.calls, result.exit_code) == (0, ExitCode.NOT_REVIEWED)
    assert result.review.reason == "not sent: git_diff (untracked: new.py)"


def test_one_of_two_reviews_without_the_diff_is_incomplete() -> None:
    steps = [step("one", "reviewer"), step("two", "reviewer", context=DIFF)]
    collect = {"two": reading(no_change(missing="untracked: new.py"))}
    result = run(steps, [PASS], collect=collect, gate=Gate("high"))
    assert (result.review.status, result.exit_code) == ("pass", ExitCode.NOT_REVIEWED)


def test_an_unseen_edit_by_an_agent_is_not_reviewed() -> None:
    steps = [step("implement", backend="agent"), step("review", "reviewer", context=DIFF)]
    collect = {"review": reading(no_change())}
    result = run(steps, [said("1", "a.py")], collect=collect, gate=Gate("high"))
    assert result.exit_code == ExitCode.NOT_REVIEWED
    assert "edited files, and no review was called" in str(result.review.reason)


def as_the_agent_left_it(view: View) -> Collected:
    changed = next(each.artifacts for each in reversed(view.history) if each.artifacts).changed_files
    return one_part(change("latest_diff") if changed else no_change("latest_diff"))


def test_a_loop_without_any_edit_is_satisfied_unreviewed() -> None:
    steps = [
        step("implement", backend="agent"),
        step("review", "reviewer", context=LATEST, repeat=review_loop()),
    ]
    result = run(steps, [said("1", edited=True)], collect={"review": as_the_agent_left_it}, gate=Gate("high"))
    assert [(loop.outcome, loop.iterations) for loop in result.loops] == [("satisfied", 1)]
    assert (Verdict(result.review, result.outcome), result.exit_code) == (NOTHING_CHANGED, ExitCode.OK)


def test_a_loop_without_an_edit_for_a_finding_is_stalled() -> None:
    steps = [
        step("implement", backend="agent"),
        step("review", "reviewer", context=LATEST, repeat=review_loop()),
    ]
    answers: list[Answer] = [said("1", "a.py"), REVISE, said("2", edited=True)]
    result = run(steps, answers, collect={"review": as_the_agent_left_it}, gate=Gate("high"))
    assert [(loop.outcome, loop.iterations) for loop in result.loops] == [("stalled", 2)]
    assert (result.review.status, len(result.review.findings)) == ("revise", 1)
    assert result.exit_code == ExitCode.GATE


def test_a_loop_that_cannot_see_its_agent_runs_one_pass() -> None:
    repeat = review_loop(until_contains="DONE", until_review_pass=False)
    steps = [step("implement", backend="agent"), step("review", "reviewer", context=DIFF, repeat=repeat)]
    result = run(steps, [said("1", "a.py")], collect={"review": reading(no_change())}, gate=Gate("high"))
    assert [(loop.outcome, loop.iterations) for loop in result.loops] == [("stalled", 1)]


@pytest.mark.parametrize(("passed", "outcome", "code"), [(True, "satisfied", 0), (False, "stalled", 1)])
def test_a_loop_command_decides_when_nothing_is_reviewed(passed: bool, outcome: str, code: int) -> None:
    repeat = review_loop(until_command_passes="make")
    steps = [step("implement", backend="agent"), step("review", "reviewer", context=LATEST, repeat=repeat)]
    plan = make_plan(
        steps, Script([said("1", edited=True)]), {"review": as_the_agent_left_it}, gate=Gate("high")
    )
    checked = plan.steps[1]._replace(check=lambda: CommandCheck("make", passed, "ended"))
    _, result = play(plan._replace(steps=(plan.steps[0], checked)))
    assert ([loop.outcome for loop in result.loops], result.exit_code) == ([outcome], code)


@pytest.mark.parametrize("finished", [1, 2, 3])
def test_a_replay_skips_the_same_steps_in_a_changed_tree(finished: int) -> None:
    steps = [step("plan"), step("review", "reviewer", context=DIFF), step("report")]
    events, whole = play(make_plan(steps, Script(["plan", "report"]), {"review": reading(no_change())}))
    results = [event.result for event in events if isinstance(event, StepFinished)]
    script = Script([] if finished == 3 else ["report"])
    now = {"review": reading(change() if finished > 1 else no_change())}
    _, again = play(make_plan(steps, script, now), results[:finished])
    assert (turns(again), again.skipped) == (turns(whole), whole.skipped)


def test_a_resume_notices_a_change_after_an_empty_review() -> None:
    steps = [step("review", "reviewer", context=DIFF), step("report")]
    plan = make_plan(steps, Script(["report"]), {"review": reading(no_change())})
    done = [event.result for event in play(plan)[0] if isinstance(event, StepFinished)][:1]
    assert stale.saw_another_change(plan, done) is None
    now = make_plan(steps, Script([]), {"review": reading(change())})
    assert stale.saw_another_change(now, done) == "review"


@pytest.mark.parametrize("gate", [Gate("high"), Gate("low"), Gate("revise")])
@pytest.mark.parametrize(("answer", "code"), [("DONE", 0), ("not yet", 1)])
def test_a_gate_on_a_loop_without_a_reviewer(gate: Gate, answer: str, code: int) -> None:
    steps = [step("write", repeat=Repeat("write", 2, until_contains="DONE"))]
    result = run(steps, [answer, answer], gate=gate)
    assert result.exit_code == code
    assert result.review.reason == "the workflow has no reviewing step"


def test_a_required_review_is_required_of_a_loop_too() -> None:
    steps = [step("write", repeat=Repeat("write", 2, until_contains="DONE"))]
    assert run(steps, ["DONE"], gate=Gate("high", require_review=True)).exit_code == ExitCode.NOT_REVIEWED
    assert run(steps, ["DONE"], gate=Gate("high"), mode="mock").exit_code == ExitCode.NOT_REVIEWED


# --- what the run is about, and whether it is still there ------------------------------------------


def test_the_first_event_and_the_record_have_the_subject() -> None:
    steps = [step("plan"), step("review", "reviewer", context=DIFF)]
    events, result = play(make_plan(steps, Script(["plan", PASS]), {"review": reading(change())}))
    assert isinstance(events[0], RunStarted)
    assert (
        events[0].subject == result.subject == Subject(Scope(), Extent(1, 1, 1), reviewed=True, by_name=True)
    )
    events, result = play(make_plan([step("plan")], Script(["plan"])))
    assert (events[0].subject, result.subject) == (None, None)


@pytest.mark.parametrize(("gate", "code"), [(Gate("high"), ExitCode.NOT_REVIEWED), (Gate(), ExitCode.OK)])
def test_a_change_edited_during_the_run_is_not_reviewed(gate: Gate, code: ExitCode) -> None:
    later = change()._replace(receipts=(Receipt("git_diff", "a.py", 4, sha256="b"),))
    blocks = iter([change(), later])
    plan = make_plan(
        [step("review", "reviewer", context=DIFF)],
        Script([PASS]),
        {"review": lambda _: one_part(next(blocks))},
        gate=gate,
    )
    assert play(plan)[1].exit_code == code


def test_a_review_rests_on_the_change_that_another_step_read() -> None:
    later = change()._replace(receipts=(Receipt("git_diff", "a.py", 4, sha256="b"),))
    blocks = iter([change(), later])
    steps = [step("explain", context=DIFF), step("review", "reviewer")]
    collect = {"explain": lambda _: one_part(next(blocks))}
    plan = make_plan(steps, Script(["It adds one.", PASS]), collect, gate=Gate("high"))
    _, result = play(plan)
    assert result.exit_code == ExitCode.NOT_REVIEWED
    assert result.review.reason == "the change that step 'explain' read was changed during the run"


def test_a_moved_scope_is_incomplete_but_findings_count() -> None:
    for answer, code in ((PASS, ExitCode.NOT_REVIEWED), (REVISE, ExitCode.GATE)):
        plan = make_plan(
            [step("review", "reviewer", context=DIFF)],
            Script([answer]),
            {"review": reading(change())},
            gate=Gate("high"),
            moved=lambda: "HEAD moved",
        )
        _, result = play(plan)
        assert (result.exit_code, "HEAD moved" in str(result.review.reason)) == (code, True)


def test_the_first_line_and_the_first_step_read_git_once() -> None:
    views: list[View] = []

    def collect(view: View) -> Collected:
        views.append(view)
        return one_part(change())

    run([step("review", "reviewer", context=DIFF)], [PASS], collect={"review": collect})
    assert len(views) == 1


def test_each_request_has_the_remaining_allowance() -> None:
    script = Script(["one", "two"])
    play(make_plan([step("a"), step("b")], script, allowance=Allowance(1.0, 100)))
    assert [(r.allowance.cost_usd, r.allowance.tokens) for r in script.requests] == [(1.0, 100), (0.99, 88)]


def test_a_key_is_redacted_in_prompt_answer_diff_and_delta() -> None:
    secret = "sk-0123456789abcdef"
    leak = said(f"the key is {secret}", "a.py")
    leak = leak._replace(artifacts=Artifacts(("a.py",), "", f"+{secret}"))
    script = Script([leak])
    plan = make_plan(
        [step("a", backend="agent")],
        script,
        {"a": reading(Block("file:x", f"key = {secret}"))},
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


def test_the_usage_of_failed_attempts_counts_for_the_step() -> None:
    script = Script(["no verdict", PASS, "a report"], failed=Usage(100, 20, 120, 0.5))
    steps = (step("review", "reviewer"), step("report", "writer"))
    result = play(make_plan(steps, script, allowance=Allowance(tokens=1000)))[1]
    assert result.steps[0].usage == Usage(220, 44, 264, 1.02)
    assert (result.totals.prompt_tokens, result.totals.completion_tokens) == (330, 66)
    assert [request.allowance.tokens for request in script.requests] == [1000, 868, 736]


def test_a_failed_second_question_counts_too() -> None:
    script = Script(["no verdict", ModelError("it failed")], failed=Usage(100, 20, 120, 0.5))
    result = play(make_plan((step("review", "reviewer"),), script))[1]
    assert result.steps[0].usage == Usage(210, 42, 252, 1.01)


@pytest.mark.parametrize("cut", [0, 1], ids=["the first", "the second"])
def test_a_cut_prompt_makes_the_review_incomplete(cut: int) -> None:
    answers: list[Answer] = [said("no verdict"), said(PASS)]
    answers[cut] = said(PASS if cut else "no verdict", cut_prompt="the server counted 40 tokens")
    result = run((step("review", "reviewer"),), answers, gate=Gate("revise"))
    assert result.steps[0].cut_prompt == "the server counted 40 tokens"
    assert result.exit_code == ExitCode.NOT_REVIEWED
    assert "did not read the whole prompt" in (result.review.reason or "")
