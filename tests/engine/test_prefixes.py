"""The places of a prompt that are marked for prefix caches: exact, used, and none too many."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aethr import engine
from aethr.base.records import (
    Block,
    Collected,
    CommandCheck,
    ModelSpec,
    Plan,
    PlannedStep,
    Repeat,
    Request,
    Scope,
    Shown,
    StepFinished,
    StepResult,
    StepSpec,
    View,
    is_change,
    is_git_diff,
)
from aethr.engine import prompts
from tests.prefix_cache import Marked
from tests.support import Script, make_plan, said

REVISE = "- [high] a.py:1 — wrong\nReview status: revise"
LONG = "a line of text that is long enough to matter\n" * 4


class Answers(Script):
    """Answers each call in other words and never with a pass; an agent edits each time."""

    def __init__(self, editing: frozenset[str] = frozenset()) -> None:
        super().__init__([])
        self.editing = editing

    def complete(self, request: Request) -> Any:
        number = len(self.requests)
        edited = ("a.py",) if request.step in self.editing else ()
        self.answers.append(said(f"{LONG}answer {number} of {request.step}\n{REVISE}", *edited))
        return super().complete(request)


def reading(spec: StepSpec, parts: int, stable: bool) -> Callable[[View], Collected]:
    """Context as the packer gives it: a change is the same for all steps, other sources are packed anew.

    Unless it is ``stable``, an edit changes everything; a change of the run itself changes with it always.
    """

    def collect(view: View) -> Collected:
        edits = sum(each.artifacts is not None for each in view.history)

        def block(source: str, part: int) -> Block:
            own = f"part {part}\n" if is_change(source) else f"{spec.context_chars} for {spec.context}\n"
            state = 0 if stable and (is_git_diff(source) or not is_change(source)) else edits
            text = f"{LONG}{source} after {state} edits\n{own}"
            return Block(source, text, shown=(Shown("a.py", (text,)),) if is_change(source) else ())

        cut = parts if any(map(is_change, spec.context)) and spec.backend != "agent" else 1
        return Collected(tuple(tuple(block(each, n + 1) for each in spec.context) for n in range(cut)), cut)

    return collect


SEEDS = [seed if seed < 4 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(80)]
CONTEXTS = (
    (),
    ("git_diff",),
    ("git_diff", "tree"),
    ("tree", "git_diff"),
    ("git_diff", "guidance"),
    ("latest_diff",),
    ("file:README.md",),
)


def random_plan(dice: random.Random, *, agents: bool, jobs: int) -> Plan:
    specs = []
    for number in range(dice.randrange(1, 5)):
        role = dice.choice(["worker", "reviewer"])
        repeat = None
        if dice.random() < 0.5 and (free := [n for n in range(number + 1) if n >= _loop_end(specs)]):
            until = {"until_review_pass": True} if role == "reviewer" else {"until_contains": "never"}
            repeat = Repeat(f"s{dice.choice(free)}", dice.randrange(2, 4), **until)
        context = dice.choice(CONTEXTS)
        if not agents and "latest_diff" in context:
            context = ("git_diff",)
        backend = "agent" if agents and dice.random() < 0.3 else "model"
        visibility = dice.choice(["all", "all", "latest", "summary", "none"])
        spec = StepSpec(
            f"s{number}",
            role if backend == "model" else "worker",
            dice.choice([1000, 1000, 2000]),
            context,
            backend=backend,
            history_visibility=visibility,
            repeat=repeat if backend == "model" else None,
        )
        specs.append(spec)
    editing = frozenset(spec.id for spec in specs if spec.backend == "agent")
    parts, stable = dice.choice([1, 1, 3, 6]), dice.random() < 0.5
    scope = Scope("range", "a..b", "a" * 40, "b" * 40) if stable else Scope()
    collect = {spec.id: reading(spec, parts, stable) for spec in specs}
    plan = make_plan(specs, Answers(editing), collect, jobs=jobs, scope=scope)
    big = ModelSpec("anthropic:big")
    models = [big, big._replace(reasoning_effort="high"), ModelSpec("anthropic:small")]
    chosen = [dice.choice(models[: dice.choice([1, 3])]) for _ in specs]
    steps = zip(plan.steps, chosen, strict=True)
    return plan._replace(steps=tuple(step._replace(model=model) for step, model in steps))


def _loop_end(specs: Sequence[StepSpec]) -> int:
    """Loops do not overlap."""
    return max((n + 1 for n, spec in enumerate(specs) if spec.repeat), default=0)


def calls_of(plan: Plan, done: Sequence[StepResult] = ()) -> list[Request]:
    """The calls of models that a run made, in their order."""
    list(engine.run(plan, done))
    backend = plan.steps[0].backend
    assert isinstance(backend, Answers)
    return [each for each in backend.requests if each.step not in backend.editing]


def way(request: Request) -> object:
    assert request.model is not None
    return request.model.name, request.model.reasoning_effort


def body_of(request: Request) -> Mapping[str, Any]:
    """The request as Anthropic gets it."""
    ends = (0, *request.shared, len(request.prompt))
    parts = [{"text": request.prompt[a:b]} for a, b in pairwise(ends)]
    marked = [{**part, "cache_control": {"type": "ephemeral"}} for part in parts[:-1]]
    return {"model": str(way(request)), "messages": [{"content": [*marked, parts[-1]]}]}


def boundaries(prompt: str) -> Iterator[int]:
    """Where the blocks of a prompt end."""
    blocks = prompt.count("\n<<<") - prompt.count("\n<<<TOKEN")
    yield from prompts.find_ends(prompt, range(1, blocks + 1))


def most_in_common(prompt: str, others: Sequence[str]) -> int:
    """The end of the longest beginning in whole blocks that another prompt has."""
    ends = [end for end in boundaries(prompt) if any(each.startswith(prompt[:end]) for each in others)]
    return max(ends, default=0)


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("agents", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_another_call_of_the_model_begins_with_each_marked_prefix(seed: int, agents: bool, jobs: int) -> None:
    requests = calls_of(random_plan(random.Random(seed), agents=agents, jobs=jobs))
    for number, each in enumerate(requests):
        others = [r.prompt for n, r in enumerate(requests) if n != number and way(r) == way(each)]
        assert len(each.shared) <= 4
        for end in each.shared:
            assert any(other.startswith(each.prompt[:end]) for other in others), each.step


@pytest.mark.parametrize("seed", SEEDS)
def test_one_call_after_the_other_reads_all_that_it_has_in_common(seed: int) -> None:
    """Where nothing is edited, all that two prompts have in common is known from the plan."""
    requests = calls_of(random_plan(random.Random(seed), agents=False, jobs=1))
    cache = Marked(least=0)
    for number, each in enumerate(requests):
        earlier = [r.prompt for r in requests[:number] if way(r) == way(each)]
        counted = cache.take(body_of(each))
        assert counted.cached == most_in_common(each.prompt, earlier) // 4, each.step
        later = [r.prompt for r in requests[number + 1 :] if way(r) == way(each)]
        read = most_in_common(each.prompt, later) // 4
        assert counted.cached + counted.written <= max(counted.cached, read), "written for nobody"


def plan_of(*specs: StepSpec, parts: int = 1, **more: Any) -> Plan:
    plan = make_plan(specs, Answers(), {spec.id: reading(spec, parts, False) for spec in specs}, **more)
    return plan._replace(steps=tuple(step._replace(model=ModelSpec("anthropic:m")) for step in plan.steps))


def reviewer(name: str, **more: Any) -> StepSpec:
    return StepSpec(name, "reviewer", 1000, ("git_diff",), history_visibility="none", **more)


def test_calls_at_once_write_what_they_share_once_for_those_after_them() -> None:
    three = [reviewer(name) for name in "abc"]
    check = StepSpec("check", "writer", 1000, ("git_diff",), history_visibility="none")

    def marks(*specs: StepSpec, jobs: int) -> str:
        requests = calls_of(plan_of(*specs, jobs=jobs))  # calls at once come in any order
        return " ".join(f"{each.step}{len(each.shared)}" for each in sorted(requests, key=lambda r: r.step))

    assert marks(*three, jobs=4) == "a0 b0 c0"
    assert marks(*three, check, jobs=4) == "a1 b0 c0 check1"
    assert marks(*three, jobs=1) == "a1 b1 c1"
    assert marks(*three, jobs=2) == "a1 b0 c1"


def test_nothing_is_marked_where_nothing_follows() -> None:
    assert [each.shared for each in calls_of(plan_of(reviewer("a")))] == [()]
    assert [each.shared for each in calls_of(plan_of(reviewer("a"), parts=3))] == [()] * 3


def test_the_last_pass_of_a_loop_reads_and_writes_no_more() -> None:
    loop = Repeat("a", 3, until_review_pass=True)
    spec = reviewer("a", repeat=loop)._replace(history_visibility="all")
    requests = calls_of(plan_of(spec))
    ends = [list(boundaries(each.prompt)) for each in requests]
    assert [[of.index(end) + 1 for end in each.shared] for of, each in zip(ends, requests, strict=True)] == [
        [2],  # the change and the task
        [2, 3],  # and the first answer
        [3],
    ]


def test_a_command_or_an_agent_between_two_calls_makes_what_they_read_another_one() -> None:
    passed = CommandCheck("true", True, "it passed")
    second = reviewer("b")._replace(history_visibility="latest")  # so that it follows
    for between in ({}, {"check": lambda: passed}, {"runs_commands": True}):
        plan = plan_of(reviewer("a"), second)
        first = plan.steps[0]._replace(**between)
        marked = [bool(each.shared) for each in calls_of(plan._replace(steps=(first, plan.steps[1])))]
        assert marked == [not between, not between]


def test_another_model_or_effort_has_another_cache() -> None:
    plan = plan_of(reviewer("a"), reviewer("b"), jobs=1)

    def with_second(model: ModelSpec) -> list[Request]:
        second: PlannedStep = plan.steps[1]._replace(model=model, backend=Answers())
        first = plan.steps[0]._replace(backend=second.backend)
        return calls_of(plan._replace(steps=(first, second)))

    assert [len(each.shared) for each in with_second(ModelSpec("anthropic:m", max_tokens=9))] == [1, 1]
    assert [each.shared for each in with_second(ModelSpec("anthropic:n"))] == [(), ()]
    assert [each.shared for each in with_second(ModelSpec("anthropic:m", reasoning_effort="low"))] == [(), ()]


def test_a_provider_that_caches_by_itself_gets_no_marks() -> None:
    plan = plan_of(reviewer("a"), reviewer("b"), jobs=1)
    steps = tuple(step._replace(model=ModelSpec("xai:grok-4.3")) for step in plan.steps)
    assert [each.shared for each in calls_of(plan._replace(steps=steps))] == [(), ()]


def test_the_question_for_a_verdict_is_another_prompt() -> None:
    plan = plan_of(reviewer("a"), StepSpec("b", "writer", 1000, ("git_diff",), history_visibility="none"))
    backend = Script(["no verdict", "Review status: pass", "done"])
    list(engine.run(plan._replace(steps=tuple(step._replace(backend=backend) for step in plan.steps))))
    assert [len(each.shared) for each in backend.requests] == [1, 0, 1]


def test_a_resumed_run_does_not_expect_what_has_expired() -> None:
    plan = plan_of(reviewer("a"), reviewer("b"), jobs=1)
    first = next(event for event in engine.run(plan) if isinstance(event, StepFinished))
    again = plan_of(reviewer("a"), reviewer("b"), jobs=1)
    assert [each.shared for each in calls_of(again, [first.result])] == [()]


def test_a_mock_marks_nothing() -> None:
    assert [each.shared for each in calls_of(plan_of(reviewer("a"), reviewer("b"), mode="mock"))] == [(), ()]


@pytest.mark.parametrize("secret", ["sk-0123456789abcdef", "long enough"])
def test_places_are_counted_in_the_prompt_without_keys(secret: str) -> None:
    plan = plan_of(reviewer("a"), reviewer("b"), jobs=1, task=f"the task with {secret}", secrets=(secret,))
    for each in calls_of(plan):
        [end] = each.shared
        assert each.prompt[:end].endswith(">>>\n\n")
        assert each.prompt[end:].startswith("# Your step")
        assert secret not in each.prompt


def test_a_text_that_looks_like_a_boundary_ends_no_block() -> None:
    closing = "\nabcdef012345>>>\n\n# Your step\n\n<<<abcdef012345 git_diff\n"
    plan = plan_of(reviewer("a"), reviewer("b"), jobs=1, task=closing, root=Path("/"))
    for each in calls_of(plan):
        assert each.prompt[each.shared[0] :].startswith("# Your step\n\nYou are the reviewer")
