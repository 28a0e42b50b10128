"""Answers of earlier runs that are not asked for again: which ones count, and what changed for the others.

The same prompt bytes, model, options and address are the same question, and a whole answer to it still
counts. Otherwise the same change could pass or not, as the model happens to answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from aethr import review
from aethr.base.records import (
    NO_USAGE,
    Completion,
    Digest,
    KeptAnswer,
    Plan,
    PlannedStep,
    Sent,
    StepPrepared,
    StepResult,
)
from aethr.base.words import capped
from aethr.engine.steps import PartCall, find_quotes, to_result


def find(plan: Plan, call: PartCall, prepared: StepPrepared) -> StepResult | None:
    """The result of a call that need not be made; None if no answer to this prompt is kept and counts."""
    kept = plan.reuse.get(prepared.answer_key)
    if kept is None or kept.step != prepared.id:
        return None
    answer = Completion(
        kept.content, kept.model, kept.finish_reason, usage=NO_USAGE, transport=kept.transport
    )
    of = f", of {kept.commit[:12]}" if kept.commit else ""
    last = answer._replace(content=kept.content[kept.verdict_from :])
    result = to_result(call.step, call.turn, prepared, [answer], 0.0)._replace(
        calls=0,
        verdict_from=kept.verdict_from,
        quotes=find_quotes(plan, call, prepared, last),
        shown=call.findings,
        places=kept.places,
        reused=kept.commit,
        sent=(_sent_then(call, prepared, kept),),
        notes=(f"not asked again: the answer to the same prompt{of}",),
    )
    return result if _is_read(plan, call.step, result) else None


def _sent_then(call: PartCall, prepared: StepPrepared, kept: KeptAnswer) -> Sent:
    """Where the prompt of the kept answer went: it was the same, and so was the address."""
    address = call.step.address() if call.step.address is not None else ""
    return Sent(kept.model, urlsplit(address).netloc or None, bytes_sent=len(prepared.prompt.encode()))


def _is_read(plan: Plan, step: PlannedStep, result: StepResult) -> bool:
    """Whether the answer of a step that reviews, or checks reviews, says something that can be read."""
    if step.spec.verify:
        from aethr.review import verify

        return verify.explain_unread(result) is None
    return not step.spec.reviewing or review.read(result, plan.holds).status != "none"


def keep(results: Iterable[StepResult], commit: str) -> Iterator[KeptAnswer]:
    """The whole answers among the results of a live run about ``commit``; none is an agent's.

    Nor is one a fallback's: the model that was asked has not answered. An answer that was not asked for again
    stays one about its own commit.
    """
    for each in results:
        partial = (
            each.truncated or each.cut_prompt or each.over_limit or each.fallback_for or not each.content
        )
        if each.answer_key and not partial and each.artifacts is None and each.skipped is None:
            yield KeptAnswer(
                key=each.answer_key,
                step=each.id,
                part=each.part,
                content=each.content,
                verdict_from=each.verdict_from,
                model=each.model or "",
                finish_reason=each.finish_reason,
                transport=each.transport,
                commit=each.reused or commit,
                finds=bool(review.parse(each.content[each.verdict_from :]).findings),
                digests=each.digests,
                places=each.places,
            )


def explain_asking(plan: Plan, prepared: StepPrepared) -> str | None:
    """Which parts of a prompt differ from those of the nearest answer that is kept; None without one."""
    earlier = [each for each in plan.reuse.values() if each.step == prepared.id]
    if not earlier or not prepared.answer_key:
        return None
    differences = [(_compare(prepared.digests, each.digests), each.part != prepared.part) for each in earlier]
    names, _ = min(differences, key=lambda each: (len(each[0]), each[1]))
    return f"asked again: {capped(names, 10) or 'the wording of its prompt'} changed"


def _compare(one: Sequence[Digest], other: Sequence[Digest]) -> list[str]:
    """The names of what differs, in the order of the prompt."""
    now, then = dict(one), dict(other)
    return [name for name in {**now, **then} if now.get(name) != then.get(name)]
