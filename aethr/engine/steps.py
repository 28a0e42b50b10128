"""One call of a step, for one part of the change: its prompt, its answer, and its result."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from aethr import review
from aethr.base import edge, providers
from aethr.base.errors import AethrError, ModelError
from aethr.base.records import (
    NO_USAGE,
    AttemptStarted,
    Block,
    Collected,
    Completion,
    Digest,
    Earlier,
    Finding,
    ModelSpec,
    Notice,
    Plan,
    PlannedStep,
    Quote,
    Receipt,
    Request,
    Sent,
    Spent,
    StepEvent,
    StepPrepared,
    StepResult,
    StepStarted,
    TextDelta,
    Thinking,
    Usage,
    View,
    changes_in,
    is_change,
)
from aethr.base.sanitize import REDACTED, Redactor, redact_record
from aethr.base.words import capped
from aethr.engine import prompts
from aethr.engine.progress import Turn

if TYPE_CHECKING:
    from aethr.engine.at_once import Loan


CONTRACT = 1
"""Raised when an answer to the same prompt would no longer mean the same: no earlier one counts then."""


class PartCall(NamedTuple):
    """A call of a step for one part of the change. ``history`` are the results from before its turn.

    ``findings`` are those that a verifying step is asked about, ``notes`` lines to report with its result.
    ``shared`` are numbers of blocks with which other prompts of the run begin too, ascending.
    """

    step: PlannedStep
    turn: Turn
    part: int
    collected: Collected
    history: tuple[StepResult, ...]
    earlier: Earlier | None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    shared: tuple[int, ...] = ()

    def ask_about_findings(self, plan: Plan) -> PartCall:
        """The call with the findings that are open now: of its own part, where the reviews have the same."""
        spec = self.step.spec
        high = frozenset(step.spec.id for step in plan.steps if step.spec.verify_high)
        settled = review.settle(self.history, frozenset(spec.verify), plan.holds, high)
        seen = [(of, own) for of, own in settled if self._sees(plan, of)]
        found = [each._replace(by=(of.id,), check=None) for of, own in seen for each in own.open]
        if not found:
            return self
        from aethr.review import verify

        return self._replace(findings=verify.fit(found, (of for of, _ in seen)))

    def prepare(self, plan: Plan) -> StepPrepared:
        """Its prompt, with the receipts of what the prompt contains."""
        step, parts = self.step, len(self.collected.parts)
        blocks = self.collected.parts[self.part - 1]
        receipts = list(receipts_of(blocks))
        setting = prompts.Setting(
            workflow=plan.workflow.name,
            step=step.spec.id,
            role=step.spec.role,
            guidance=step.guidance,
            reviewing=step.spec.reviewing,
            edits_tree=step.edits_tree,
            cut=parts > 1,
            numbered=any(each.spec.reviewing for each in plan.steps),
            verify=step.spec.verify,
            answer=step.spec.answer,
            instructions=tuple(
                each
                for each in plan.workflow.instructions
                if any(plan.concerns(each, receipt) for receipt in receipts)
            ),
        )
        earlier_steps = prompts.describe_history(self.see(plan), step.spec.history_visibility)
        redactor = Redactor(plan.secrets)
        found = self.earlier if step.edits_tree else None
        given = prompts.build(setting, plan.task, earlier_steps, blocks, found, self.findings)
        prompt = redactor.redact(given)
        change = tuple(each for block in blocks if is_change(block.source) for each in block.shown)
        for block in blocks:
            if count := redactor.count(block.text):
                change = redact_record(change, redactor.redact)
                places = "1 place" if count == 1 else f"{count:,} places"
                note = f"the value of a key is replaced by {REDACTED} in {places}"
                receipts.append(Receipt(block.source, None, 0, note=note))
        prepared = StepPrepared(
            step.spec.id,
            prompt,
            prompts.digest(prompt),
            tuple(receipts),
            part=self.part,
            parts=parts,
            change=change,
        )
        if not plan.is_live or step.address is None:
            return prepared
        # The answer of a fallback is never kept, so which ones there are does not matter.
        model = step.model._replace(timeout_s=None, fallback=()) if step.model else None
        asked = {
            "task": plan.task,
            "earlier steps": earlier_steps,
            "findings": self.findings,
            "role": setting,
            "model": (model, step.address()),
        }
        digests = tuple(
            Digest(name, prompts.digest(redactor.redact(str(value))))
            for name, value in (*((block.source, block.text) for block in blocks), *asked.items())
        )
        key = prompts.digest(f"answer {CONTRACT}\n{prepared.prompt_sha256}\n{digests[-1].sha256}")
        return prepared._replace(answer_key=key, digests=digests)

    def see(self, plan: Plan) -> tuple[StepResult, ...]:
        """The earlier results whose answers its prompt may have."""
        return tuple(each for each in self.history if each.skipped is None and self._sees(plan, each))

    def _sees(self, plan: Plan, each: StepResult) -> bool:
        """Whether the prompt may have this earlier answer.

        A part sees only the answer to the same part if the earlier step read the same change.
        """
        parts = len(self.collected.parts)
        if parts == 1 or each.parts != parts or each.part == self.part:
            return True
        both = (self.step.spec.id, each.id)
        sources = [changes_in(own.spec.context) for own in plan.steps if own.spec.id in both]
        since = self.history[self.history.index(each) :]
        return sources[0] != sources[-1] or any(result.artifacts is not None for result in since)

    def request(self, plan: Plan, prepared: StepPrepared) -> Request:
        """The request with this prompt, without its allowance."""
        request = self.step.request(plan.root, prepared.prompt, iteration=self.turn.iteration)
        if self.step.spec.answer == "schema":
            from aethr.review.structured import SCHEMA

            request = request._replace(schema=SCHEMA)
        shared = prompts.find_ends(prepared.prompt, self.shared)
        return request._replace(earlier=self.earlier, shared=shared, part=self.part)

    def announce(self, plan: Plan) -> Iterator[StepStarted]:
        """The start of the step, unless it was reported before the commands of its context ran."""
        parts = len(self.collected.parts)
        if parts > 1 or not self.step.runs_commands:
            yield make_start(plan, self.turn, self.part, parts)


def perform(
    plan: Plan, call: PartCall, loan: Loan, is_cancelled: Callable[[], bool], clock: Callable[[], float]
) -> Generator[StepEvent, None, StepResult]:
    """Build the prompt, call the backend, and ask a reviewer without a verdict for it, once."""
    step, prepared = call.step, call.prepare(plan)
    yield prepared
    began = clock()
    request = call.request(plan, prepared)._replace(
        allowance=loan.allowance, extend=loan.extend, cancelled=is_cancelled
    )
    failed, sent = list[Usage](), list[Sent]()
    answers = [(yield from _call(plan, step, request, failed, sent))]
    quotes = find_quotes(plan, call, prepared, answers[0])
    if doubt := _find_missing_verdict(plan, step, prepared, answers[0], quotes):
        yield Notice(f"{step.spec.id}: no verdict: {doubt}; asking once more", "warning")
        try:
            again = request.after(answers[0].usage, *failed)
            question = prompts.ask_verdict(answers[0].content, step.spec.answer)
            again = again._replace(prompt=question, shared=())
            answers.append((yield from _call(plan, step, again, failed, sent)))
            quotes = find_quotes(plan, call, prepared, answers[1])
        except AethrError as error:  # the first answer is paid for, and still counts
            yield Notice(f"{step.spec.id}: no verdict: {error}", "warning")
    result = to_result(step, call.turn, prepared, answers, clock() - began, failed)
    result = result._replace(
        quotes=quotes, shown=call.findings, notes=(*call.notes, *result.notes), sent=add_up_sent(sent)
    )
    if step.spec.reviewing and plan.mode != "mock":
        # Without ids, where git cannot read a file, every finding counts as a new one.
        with suppress(AethrError, OSError):
            result = result._replace(places=review.find_places(result, plan.holds, plan.read_files))
    if result.shown:
        yield from _find_unproven(result)
    return result


def add_up_sent(sent: Iterable[Sent]) -> tuple[Sent, ...]:
    """One for each model and place, in order of first use."""
    sums: dict[tuple[str, str | None, str | None], Sent] = {}
    for each in sent:
        before = sums.get(each[:3], each._replace(calls=0, bytes_sent=0))
        sums[each[:3]] = each._replace(
            calls=before.calls + each.calls, bytes_sent=before.bytes_sent + each.bytes_sent
        )
    return tuple(sums.values())


def _find_unproven(result: StepResult) -> Iterator[Notice]:
    """Why findings stay open that a verifying step would drop."""
    from aethr.review import verify

    if unread := verify.explain_unread(result):
        yield Notice(f"{result.id}: every finding stays open: {unread}", "warning")
    elif unproven := verify.list_unproven(result):
        which = (
            f"finding {unproven[0]} stays" if len(unproven) == 1 else f"findings {capped(unproven, 20)} stay"
        )
        yield Notice(f"{result.id}: {which} open: no code that it quotes disproves them", "warning")


def find_quotes(plan: Plan, call: PartCall, prepared: StepPrepared, answer: Completion) -> tuple[Quote, ...]:
    """The code that a review, or a check of one, quotes, and where it stands in the code of its prompt.

    A mock quotes none.
    """
    blocks = call.collected.parts[call.part - 1]
    if call.findings:
        from aethr.review import verify

        code = [
            block._replace(shown=tuple(each for each in block.shown if not each.guides)) for block in blocks
        ]
        return verify.find_quotes(answer.content, call.findings, partial(plan.find_quotes, code))
    if not call.step.spec.reviewing or plan.mode == "mock":
        return ()
    ground = review.ground(prepared.receipts, plan.holds)
    return review.find_quotes(answer.content, ground, partial(plan.find_quotes, blocks))


def _call(
    plan: Plan, step: PlannedStep, request: Request, failed: list[Usage], sent: list[Sent]
) -> Generator[StepEvent, None, Completion]:
    """Relay a backend's events without thinking and without the values of known keys, also across chunks.

    JSON is not shown as it arrives: its text form is shown at the end. The usage of attempts that fail is
    added to ``failed``, and what leaves the machine to ``sent``.
    """
    from aethr.review.thinking import Filter

    redactor = Redactor(plan.secrets)
    stream, filtered, screen = redactor.stream(), Filter(), _Screen(step)
    with edge.ending(step.backend.complete(request)) as call:
        while True:
            try:
                event = next(call)
            except StopIteration as stop:
                yield from screen.show(filtered.feed(stream.close()) + filtered.close())
                completion = yield from _clean(step, stop.value, redactor, screen.text)
                yield from screen.close(completion.content)
                return completion
            match event:
                case TextDelta():
                    text = filtered.feed(stream.feed(event.text))
                    yield from screen.show(text, thinking=filtered.thinking)
                case Notice():
                    yield event._replace(text=redactor.redact(event.text))
                case Spent():
                    failed.append(event.usage)
                    yield event
                case Sent():
                    sent.append(event)
                    yield event
                case Thinking() | AttemptStarted():
                    yield event


class _Screen:
    """What is shown of an answer as it arrives, in ``text``. JSON is not: its text form comes at the end."""

    def __init__(self, step: PlannedStep) -> None:
        self._shows = None if step.spec.answer == "schema" else True  # None until the answer begins
        self._shown: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._shown)

    def show(self, text: str, *, thinking: bool = False) -> Iterator[TextDelta | Thinking]:
        if self._shows is None and text.strip():
            from aethr.review.structured import BEGINS

            self._shows = text.lstrip()[0] not in BEGINS
        if text and self._shows:
            self._shown.append(text)
            yield TextDelta(text)
        elif thinking or (text and not self._shows):
            yield Thinking()

    def close(self, content: str) -> Iterator[TextDelta]:
        """Show the finished answer, unless it was shown as it arrived."""
        if content and not self._shows:
            yield TextDelta(content)


def _clean(
    step: PlannedStep, completion: Completion, redactor: Redactor, shown: str
) -> Generator[StepEvent, None, Completion]:
    """The completion in text form, without keys and thinking. If the thinking never ends, there is no answer.

    ``shown`` is the text that was shown as it arrived.
    """
    from aethr.review.thinking import split

    if (artifacts := completion.artifacts) is not None:
        artifacts = artifacts._replace(git_diff=redactor.redact(artifacts.git_diff))
        completion = completion._replace(artifacts=artifacts)
    content = redactor.redact(completion.content)
    thought = split(content)
    if step.spec.answer == "schema":
        from aethr.review import structured

        # First as a whole: a closing tag in JSON is text under review.
        by_schema = (structured.read(each, redactor.redact) for each in (content, thought.answer))
        if (read := next(filter(None, by_schema), None)) is not None:
            return completion._replace(**read._asdict())
    if thought.thinking and shown.strip() != thought.answer.strip():
        yield Notice(f"{step.spec.id}: a part of the text above is thinking, not the answer", "warning")
    if thought.finished or step.edits_tree:
        return completion._replace(content=thought.answer)
    if step.spec.reviewing or step.spec.verify:
        return completion._replace(content="", notes=(*completion.notes, "it never stopped thinking"))
    yield Spent(completion.usage)
    raise ModelError(
        f"{completion.model}: the answer is empty: all of it was thinking",
        "Raise the model's max_tokens, or lower its reasoning_effort.",
    )


def _find_missing_verdict(
    plan: Plan, step: PlannedStep, prepared: StepPrepared, answer: Completion, quotes: tuple[Quote, ...]
) -> str | None:
    """Why no verdict can be read from this answer, so that Aethr asks once more; None if it does not ask.

    A mock always answers in the form. If the answer is empty or cut, or the prompt was cut, Aethr does not
    ask again: the review would be incomplete in any case.
    """
    asked = step.spec.reviewing and not step.edits_tree and plan.mode != "mock"
    if not asked or not answer.content or answer.truncated or answer.cut_prompt:
        return None
    read = review.parse(answer.content, review.ground(prepared.receipts, plan.holds, quotes))
    return read.reason if read.status == "none" else None


def to_result(
    step: PlannedStep,
    turn: Turn,
    prepared: StepPrepared,
    answers: Sequence[Completion],
    seconds: float,
    failed: Sequence[Usage] = (),
) -> StepResult:
    first = answers[0]
    by = next((each for each in answers if each.fallback_for), first)
    called = () if step.edits_tree else providers.called(step)
    sent = next((each for each in called if each.name == by.model), ModelSpec(by.model))
    before = "".join(f"{review.close_blocks(each.content)}\n\n" for each in answers[:-1])
    return StepResult(
        id=step.spec.id,
        role=step.spec.role,
        backend=step.spec.backend,
        model=by.model or None,
        iteration=turn.iteration,
        prompt_sha256=prepared.prompt_sha256,
        content=before + answers[-1].content,
        finish_reason=first.finish_reason,
        truncated=any(answer.truncated for answer in answers),
        seconds=round(seconds, 3),
        calls=len(answers),
        transport=first.transport,
        usage=Usage.sum([*(answer.usage for answer in answers), *failed]),
        context=prepared.receipts,
        artifacts=first.artifacts,
        notes=tuple(note for answer in answers for note in answer.notes),
        cut_prompt=next((answer.cut_prompt for answer in answers if answer.cut_prompt), None),
        verdict_from=len(before),
        over_limit=next((answer.over_limit for answer in answers if answer.over_limit), None),
        part=prepared.part,
        parts=prepared.parts,
        answer_key=prepared.answer_key,
        digests=prepared.digests,
        fallback_for=by.fallback_for,
        reasoning_effort=sent.reasoning_effort,
        options=sent.options,
        form=answers[-1].form,
    )


def skip(step: PlannedStep, turn: Turn, collected: Collected) -> StepResult:
    """The result of a step that is not called, with the reason and the receipts of its empty change."""
    receipts = tuple(each for each in receipts_of(collected.parts[0]) if is_change(each.source))
    return StepResult(
        id=step.spec.id,
        role=step.spec.role,
        backend=step.spec.backend,
        model=None,
        iteration=turn.iteration,
        prompt_sha256="",
        content="",
        calls=0,
        usage=NO_USAGE,
        context=receipts,
        skipped=explain_empty(receipts) or "nothing changed",
    )


def skip_check(call: PartCall) -> StepResult:
    """The result of a verifying step for a part without an open finding."""
    own = skip(call.step, call.turn, call.collected)
    parts = len(call.collected.parts)
    return own._replace(skipped=review.NOTHING_OPEN, context=(), part=call.part, parts=parts)


def explain_empty(receipts: Iterable[Receipt]) -> str:
    """Why there is nothing of a change to read."""
    notes = (review.ALL_EXCLUDED if each.excluded else each.note for each in receipts)
    return "; ".join(dict.fromkeys(note for note in notes if note))


def make_start(plan: Plan, turn: Turn, part: int = 1, parts: int = 1) -> StepStarted:
    step = plan.steps[turn.position]
    model = step.model.name if step.model else None
    place = turn.position + 1, len(plan.steps)
    return StepStarted(
        step.spec.id, step.spec.role, step.spec.backend, model, turn.iteration, *place, part, parts
    )


def receipts_of(blocks: Iterable[Block]) -> tuple[Receipt, ...]:
    return tuple(receipt for block in blocks for receipt in block.receipts)


def view_of(plan: Plan, results: Sequence[StepResult]) -> View:
    """What a step reads. A mock run calls nothing, so it runs no commands either.

    The survey is from the start of the run: once a step has finished, it may be out of date.
    """
    return View(
        plan.root,
        plan.scope,
        tuple(results),
        run_commands=plan.is_live,
        strict=plan.gate.needs_review and plan.mode != "scripted",  # which tests a workflow, not a tree
        survey=None if results else plan.survey,
        rules=plan.workflow.rules,
        pull_request=plan.pull_request,
    )
