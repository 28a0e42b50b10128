"""Whether what the finished steps read is still what there is: at a resume, and at the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from aethr.base.records import (
    Plan,
    PlannedStep,
    Receipt,
    ShardPlan,
    ShardStep,
    StepResult,
    Subject,
    View,
    changes_in,
    is_change,
    is_git_diff,
)
from aethr.engine.progress import in_order, replay
from aethr.engine.steps import receipts_of, view_of


def without_stale_parts(plan: Plan, done: Sequence[StepResult]) -> tuple[StepResult, ...]:
    """``done``, without the parts of an unfinished step if its change is now another one or cut elsewhere."""
    progress = replay(plan, done)
    view = view_of(plan, progress.results)._replace(run_commands=False, again=True)
    stale: list[StepResult] = []
    for turn in progress.turns() if progress.open else ():
        if found := progress.results_of(turn):
            parts = plan.steps[turn.position].collect(view).parts
            if any(
                each.parts != len(parts)
                or (
                    each.skipped is None
                    and not _same_change(each.context, receipts_of(parts[each.part - 1]), is_change)
                )
                for each in found
            ):
                stale += found
    return tuple(each for each in done if each not in stale)


def readers_behind_review(plan: Plan, done: Sequence[StepResult]) -> tuple[PlannedStep, ...]:
    """The steps among ``done`` through which a review sees the change, and which do not run again.

    These are the reviewing steps that read it; if none reads any change, all steps that do.
    """
    turn = replay(plan, done).turn
    reviewing = [step for step in plan.steps if step.spec.reviewing and changes_in(step.spec.context)]
    finished = plan.steps[: turn.position if turn else None]
    return tuple(
        s for s in finished if any(map(is_git_diff, s.spec.context)) and s in (reviewing or plan.steps)
    )


def saw_another_change(plan: Plan, done: Sequence[StepResult]) -> str | None:
    """The id of a step among ``done`` on which a review rests and whose change is now a different one.

    None if the workflow has an agent: it edits the tree, so the difference may be the run's own.
    """
    if any(step.edits_tree for step in plan.steps):
        return None
    done = in_order(plan, done)  # a file that is cut has a receipt in each part
    latest = {result.id: result.iteration for result in done}
    view = _view_anew(plan)
    for step in readers_behind_review(plan, done):
        own = step.spec.id
        then = (each for r in done if (r.id, r.iteration) == (own, latest[own]) for each in r.context)
        parts = step.collect(view).parts
        now = (each for part in plan.own_parts(len(parts)) for each in receipts_of(parts[part - 1]))
        if not _same_change(then, now, is_git_diff):
            return own
    return None


def find_move(plan: Plan, results: Sequence[StepResult], shards: ShardPlan | None) -> str | None:
    """Why the review is out of date: what it read has changed during the run. None if it has not.

    With an agent nothing is compared: the run itself edits the tree, and may move HEAD. A shard has read only
    its own parts, and compares the plan of all.
    """
    if any(step.edits_tree for step in plan.steps):
        return None
    if (moved := plan.moved()) is not None:
        return f"{moved} during the run, so the review is of what was there before"
    if plan.scope.kind == "range":  # between commits, which do not change
        return None
    if shards is None:
        step = saw_another_change(plan, results)
    else:
        same = describe_shards(plan, shards.subject, _view_anew(plan)) == shards
        step = None if same else plan.steps[0].spec.id
    return f"the change that step '{step}' read was changed during the run" if step else None


def describe_shards(plan: Plan, subject: Subject, view: View) -> ShardPlan:
    """What all shards of this run have in common. All steps of the workflow read the same parts."""
    from aethr.engine import checkpoint

    cut = plan.steps[0].collect(view).parts
    parts = [[each for each in receipts_of(blocks) if is_change(each.source) and each.path] for blocks in cut]
    return ShardPlan(
        checkpoint.digest(plan, parts),
        subject,
        tuple(
            ShardStep(s.spec.id, s.spec.reviewing, s.spec.history_visibility, s.spec.verify_high)
            for s in plan.steps
        ),
        tuple(sum(each.changed_lines for each in part if not each.excluded) for part in parts),
    )


def _view_anew(plan: Plan) -> View:
    """A view for which the change is read again."""
    fixed = None if plan.scope.looks_at_disk or not plan.survey else plan.survey._replace(listed_diff=None)
    return view_of(plan, ())._replace(run_commands=False, survey=fixed, again=True)


def _same_change(then: Iterable[Receipt], now: Iterable[Receipt], wanted: Callable[[str], bool]) -> bool:
    """Whether the same files changed, and those that were sent in full both times have the same content.

    How much of a file fits the budget depends on the other sources, so only complete files are compared.
    """
    old, new = _files(then, wanted), _files(now, wanted)
    return old.keys() == new.keys() and all(
        old[path] == new[path] for path in old if None not in (*old[path], *new[path])
    )


def _files(
    receipts: Iterable[Receipt], wanted: Callable[[str], bool]
) -> Mapping[str | None, Sequence[str | None]]:
    """The files of the change under review, each with its SHA-256, or None if it was not sent in full.

    A file that became a link has two entries, because git shows it twice, and one that was cut has one for
    each part. A gap that is not a file counts under its note. An excluded file has its rule instead: it is
    another change once it is not excluded. So is a deleted file, whose old text may not be sent, that comes
    back.
    """
    found: dict[str | None, list[str | None]] = {}
    for each in receipts:
        if wanted(each.source) and (each.path or not each.complete):
            state = each.excluded or each.sha256 or "not sent"
            found.setdefault(each.path or each.note, []).append(state if each.complete else None)
    return found
