"""Records in words: every line that a run prints about itself, for terminals and reports (pure).

Untrusted parts pass through ``sanitize``, so a line can be written wherever plain text is expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from aethr.base.errors import ExitCode
from aethr.base.records import (
    SEVERITIES,
    Check,
    Estimate,
    Event,
    Excluded,
    Extent,
    Finding,
    LoopEnded,
    LoopResult,
    Mode,
    Need,
    Notice,
    Receipt,
    Resolved,
    Review,
    RunFinished,
    RunResult,
    RunStarted,
    Skipped,
    StepFinished,
    StepPrepared,
    StepResult,
    StepStarted,
    Subject,
    Totals,
    Usage,
)
from aethr.base.sanitize import one_line, terminal
from aethr.base.words import SHOWN, capped, counted, path_line, rest
from aethr.review import (
    ALL_EXCLUDED,
    FEW,
    NO_REVIEWER,
    count_findings,
    describe_missing,
    reason_missing,
)

Tone = Literal["plain", "note", "warning", "tool", "good", "bad", "high", "medium", "low"]
"""How a line is meant; of a finding, whose tone is its severity, only the severity is coloured."""

MOCK = "mock mode: no model is called; --live or AETHR_LIVE=1 calls the model"
SCRIPTED = "scripted answers: no model is called, and this is not a review"
UNREAL: Mapping[Mode, str] = {"mock": "mock mode", "scripted": "scripted answers"}
"""The name of a run that calls no model."""

REMEDY = (
    "review less at once, raise limits.parts or limits.context_chars, or list files that need no review "
    "under `exclude:`"
)
"""What helps if not all of a change was sent."""

_SCOPES: Mapping[str, str] = {
    "worktree": "unstaged changes",
    "staged": "staged changes",
    "head": "changes since the last commit, without new files",
    "all": "changes since the last commit, with new files",
    "revision": "changes since {}",
    "range": "{}",
}
"""The name of each kind of scope; ``{}`` stands for the argument of ``--diff``."""
_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b")


class Message(NamedTuple):
    """One line of plain text and its tone."""

    text: str
    tone: Tone = "plain"

    @property
    def labelled(self) -> str:
        """The text, with ``note:`` or ``warning:`` before it if that is its tone."""
        return f"{self.tone}: {self.text}" if self.tone in ("note", "warning") else self.text

    @property
    def loud(self) -> slice:
        """The part of ``labelled`` that has the tone's colour: all of it, or the severity of a finding."""
        mark = f"[{self.tone}]"
        if self.tone not in SEVERITIES or mark not in self.text:
            return slice(0, len(self.labelled))
        start = self.text.index(mark)
        return slice(start, start + len(mark))


def narrate(event: Event, *, verbose: bool = False, shown: Sequence[StepResult] = ()) -> tuple[Message, ...]:
    """The lines about an event, except for a step's header and its answer.

    ``shown`` are the answers that the reader has seen: they are not repeated.
    """
    match event:
        case RunStarted():
            return (*_describe_start(event), *unreal(event))
        case StepPrepared():
            return _describe_prompt(event, verbose)
        case Notice():
            return (Message(one_line(event.text, 500), "plain" if event.kind == "info" else event.kind),)
        case StepFinished():
            return _describe_result(event)
        case LoopEnded():
            return (_loop_message(event.loop),)
        case RunFinished():
            seen = _describe_recipients(event.result) if verbose else ()
            return (*seen, *closing(event.result, shown))
        case _:
            return ()


def narrate_quietly(event: Event) -> tuple[Message, ...]:
    """The lines about an event that ``--quiet`` keeps."""
    match event:
        case RunStarted():
            return unreal(event)
        case RunFinished():
            stood_in = (Message(f"answered by {name}", "note") for name in fallbacks(event.result))
            return (*stood_in, *set_aside(event.result), *doubts(event.result))
        case _:
            return ()


def without_repeats(event: Event, told: set[Receipt]) -> Event:
    """The event without the receipts that were ``told`` before; its own are added to them.

    The parts of a change share their other context, and the steps of a run share the change.
    """
    if isinstance(event, RunStarted):
        told.update(event.left_out)
    elif isinstance(event, StepPrepared):
        new = tuple(receipt for receipt in event.receipts if receipt not in told)
        told.update(new)
        return event._replace(receipts=new)
    return event


def unreal(started: RunStarted) -> tuple[Message, ...]:
    """The note of a run that calls no model."""
    note = {"mock": MOCK, "scripted": SCRIPTED}.get(started.mode)
    return (Message(note, "note"),) if note else ()


def subject(read: Subject) -> str:
    """What a run reads: ``reviewing unstaged changes: 3 files, +12 -4``."""
    scope, verb = read.scope, "reviewing" if read.reviewed else "reading"
    what = _SCOPES[scope.kind].format(_ID.sub(r"\1", one_line(scope.text, 200)))
    if read.extent is None:
        return f"{verb} {what}: nothing" + (f" ({one_line(read.note)})" if read.note else "")
    first = ", with no commit before it" if scope.without_base else ""
    parts = f", in {read.parts:,} parts" if read.parts > 1 else ""
    if read.excluded:
        first += f", {read.excluded:,} of them excluded by rule"
    if read.by_name:
        first += "; defaults exclude by name only"
    return f"{verb} {what}: {size(read.extent)}{parts}{first}"


def size(extent: Extent) -> str:
    """``3 files, +12 -4``."""
    return f"{counted(extent.files, 'file')}, +{extent.added:,} -{extent.removed:,}"


def estimate(found: Estimate) -> str:
    """``about 5 calls, 210,000 tokens, $0.31; at most 30 calls, $2.10 (openai:gpt-5.4-mini)``."""
    late = f", if each change needs {found.late_parts} parts" if found.late_parts > 1 else ""
    models = list(dict.fromkeys(one_line(need.model, 80) for need in found.most if need.agent is None))
    who = models if len(models) < 2 else [f"{len(models)} models"]
    if any(need.agent is not None for need in found.most):
        who.append("the agents' own calls are not known")
    unknown = [need.model for need in found.most if need.agent is None and need.cost_usd is None]
    if unknown:
        who.append(f"the price of {capped([one_line(name, 80) for name in unknown], 3)} is not known")
    about, most = _sum_up(found.about, with_tokens=True), _sum_up(found.most, with_tokens=bool(unknown))
    return f"about {about}; at most {most}{late} ({'; '.join(who)})"


def need(of: Need) -> str:
    """``openai:gpt-5.4-mini: 30 calls, 200,000 tokens in, 10,000 out, $2.10``."""
    model = one_line(of.model)
    if of.agent is not None:
        runs = counted(of.calls, "run")
        return f"{model} by {of.agent}: {runs}; its own calls and their cost are not known here"
    tokens = f"{of.input_tokens:,} tokens in, {of.output_tokens:,} out"
    return f"{model}: {counted(of.calls, 'call')}, {tokens}, {cost(of.cost_usd)}"


def expected_cost(result: RunResult) -> str:
    """`` (estimated: about $0.31)``, to follow what a run cost; empty without an estimate."""
    needs = result.estimate.about if result.estimate is not None else ()
    known = [need.cost_usd for need in needs if need.cost_usd is not None]
    return f" (estimated: about {cost(sum(known))})" if known else ""


def _sum_up(needs: Sequence[Need], *, with_tokens: bool) -> str:
    """Calls, tokens and cost of the models, and how often agents run: ``2 calls, $0.02, and 1 agent run``."""
    called = [need for need in needs if need.agent is None]
    runs = sum(need.calls for need in needs if need.agent is not None)
    known = [need.cost_usd for need in called if need.cost_usd is not None]
    parts = [counted(sum(need.calls for need in called), "call")] if called or not runs else []
    if called and with_tokens:
        parts.append(tokens(sum(need.input_tokens + need.output_tokens for need in called)))
    if known:
        parts.append(cost(sum(known)))
    if runs:
        parts.append(("and " if parts else "") + counted(runs, "agent run"))
    return ", ".join(parts)


def place(step: StepStarted) -> str:
    """``2/3``, or ``2/3, pass 2`` from the second iteration of a loop on, and the part of a cut change."""
    again = f", pass {step.iteration}" if step.iteration > 1 else ""
    return f"{step.number}/{step.total}{again}" + (f", {part}" if (part := part_of(step)) else "")


def part_of(step: StepStarted | StepPrepared | StepResult) -> str:
    """``part 2 of 5``; empty if the change was not cut."""
    return f"part {step.part} of {step.parts}" if step.parts > 1 else ""


def title(step: StepResult) -> str:
    """The name of a step above its answer: ``review``, or ``review, part 2 of 5``."""
    return one_line(step.id, 60) + (f", {part}" if (part := part_of(step)) else "")


def actor(step: StepStarted | StepResult) -> str:
    """Who answers: the role, and the model or, without one, the backend."""
    return f"{one_line(step.role, 40)} · {model(step)}"


def model(step: StepStarted | StepResult) -> str:
    """The model or, without one, the backend: ``anthropic:b (fallback for openai:a)``."""
    name = one_line(step.model or step.backend, 80)
    if isinstance(step, StepResult) and step.fallback_for:
        name += f" (fallback for {one_line(step.fallback_for, 80)})"
    return name


def fallbacks(result: RunResult) -> tuple[str, ...]:
    """The models that answered in the place of another one, each once."""
    return tuple(dict.fromkeys(model(step) for step in result.steps if step.fallback_for))


def closing(result: RunResult, shown: Sequence[StepResult] = ()) -> tuple[Message, ...]:
    """The end of a run: what the answers above do not say. Loops had their lines."""
    ends, said = ending(result), verdict(result)
    if shown and shown[-1].parts == 1 and shown[-1].content.rstrip().split("\n")[-1] == said.text:
        ends = tuple(line for line in ends if line != said)
    return (*set_aside(result), *list_findings(result, shown), *ends)


def ending(result: RunResult) -> tuple[Message, ...]:
    """Verdict, why the exit code is not 0, tokens and cost.

    A scripted run can end with a good verdict, so its last line says that it is not a review, as that of a
    shard says that it is not a verdict.
    """
    ends = [verdict(result), *why_not_passed(result), Message(spent(result))]
    if result.mode == "scripted" or result.shard is not None:
        ends.reverse()
    return tuple(ends)


def list_findings(result: RunResult, shown: Sequence[StepResult] = ()) -> tuple[Message, ...]:
    """The open findings by file; none if they are those of one answer, the last one that was ``shown``."""
    found = result.review.open
    last = shown[-1] if shown else None
    is_said = (
        last is not None
        and last.parts == 1
        and all(not each.also and each.by == (last.id,) for each in found)
    )
    if not found or is_said:
        return ()
    from aethr.output import grouping  # only needed for findings

    return tuple(Message(finding(each), each.severity) for each in grouping.in_order(found))


def why_not_passed(result: RunResult) -> tuple[Message, ...]:
    """Why the gate closed, or what to do about a missing review that was required."""
    if result.exit_code == ExitCode.GATE and result.closed:
        return (Message(result.closed, "bad"),)
    if result.exit_code == ExitCode.NOT_REVIEWED:
        return (Message(remedy(result)),)
    return ()


def remedy(result: RunResult) -> str:
    """How to get a complete review where there was none: ``To fix: …``."""
    if result.mode == "mock":
        fix = "set AETHR_LIVE=1 (or add --live) and your provider's key, in the environment or in .env"
    elif result.mode == "scripted":
        fix = "leave out --replies, for a review by a model"
    elif result.review == NO_REVIEWER.review:
        fix = "add a step with the role reviewer to the workflow"
    elif any(step.truncated for step in result.steps):
        fix = "raise max_tokens of the reviewer's model, or make the change smaller"
    else:
        fix = (
            _remedy_missing(result.receipts)
            or "run again what is missing or gave no verdict, or use another model"
        )
    return f"To fix: {fix}."


def _remedy_missing(receipts: Iterable[Receipt]) -> str:
    """What to do about files that were not sent, else about what the scope leaves out; empty if all was."""
    gaps = [receipt for receipt in receipts if not receipt.complete]
    if any(receipt.path for receipt in gaps):
        return REMEDY
    return "include what is named above, or choose the change with --diff" if gaps else ""


def verdict(result: RunResult) -> Message:
    """The outcome in one line, with the counts of findings, and the names of what rules exclude."""
    outcome = _outcome(result)
    said = "; ".join((outcome.text, *counts(result.review)))
    if result.excluded:
        names = capped([_excluded_name(each) for each in result.excluded])
        said += ("" if said.endswith(ALL_EXCLUDED) else "; excluded by rule") + f": {names}"
    return outcome._replace(text=said)


def counts(review: Review) -> tuple[str, ...]:
    """The findings in numbers: ``1 high finding (1 new)``, ``dropped by verify: 2 low``, ``answered: 1 low``.

    Empty without findings.
    """
    if not review.findings:
        return ()
    from aethr.output import grouping  # only needed for findings

    found = review.open
    states = [(name, sum(each.state == state for each in found)) for state, name in grouping.STATES.items()]
    told = ", ".join(f"{number:,} {name}" for name, number in states if number)
    said = count_findings(found) + (f" ({told})" if told else "")
    aside = (f"{each.name}: {summary(each.findings)}" for each in grouping.set_aside(review.findings))
    return tuple(filter(None, (said, *aside)))


def excluded(result: RunResult) -> tuple[str, ...]:
    """The files that rules exclude: ``package-lock.json (+812 -3): lock file``."""
    return tuple(f"{_excluded_name(each)}: {one_line(each.rule)}" for each in result.excluded)


def _excluded_name(each: Excluded) -> str:
    lines = f" (+{each.added:,} -{each.removed:,})" if each.added or each.removed else ""
    return one_line(each.path) + lines


def _outcome(result: RunResult) -> Message:
    """A missing or incomplete review is in capitals, with the reason.

    A workflow without a reviewing step asked for no review, so its line is not in capitals.
    """
    review = result.review
    status = review.status if review.status != "none" else ""
    reason = one_line(review.reason or "there is no verdict", 500)
    match result.outcome:
        case "nothing-to-review":
            return Message(f"Nothing to review: {reason}")
        case "not-reviewed" if result.shard is not None:
            return Message(f"NOT A VERDICT: {reason}", "bad")
        case "not-reviewed" if review == NO_REVIEWER.review:
            return Message(f"No review: {reason}")
        case "not-reviewed":
            return Message(f"NOT REVIEWED: {reason}" + (f" (they say: {status})" if status else ""), "bad")
        case "incomplete":
            on_the_rest = f" ({status} on what was sent)" if status else ""
            return Message(f"INCOMPLETE{on_the_rest}: {reason}", "bad")
        case _:
            return Message(f"Review status: {result.outcome}", "good" if result.outcome == "pass" else "bad")


def doubts(result: RunResult) -> tuple[Message, ...]:
    """What may close a gate and is not at the end of the last answer."""
    lines = [_loop_message(ended) for ended in result.loops if ended.outcome != "satisfied"]
    last = next((each.content.rstrip() for each in reversed(result.last_answers)), "")
    outcome = verdict(result)
    if outcome.tone == "bad" and not last.endswith(_outcome(result).text):
        lines.append(outcome)
    if result.exit_code == ExitCode.GATE:
        lines += (*list_findings(result, result.last_answers), *why_not_passed(result))
    return tuple(lines)


def spent(result: RunResult) -> str:
    """``2 steps, 431 tokens, $0.0012, 12.3 s``; preceded by the mode if no model was called.

    With steps that have parts the calls are counted too, and so are answers of earlier reviews:
    ``2 steps, 1 call, 8 answers used again, 431 tokens, …``. Each model that answered in the place of
    another one is named.
    """
    totals, unreal = result.totals, UNREAL.get(result.mode)
    again = sum(step.reused is not None for step in result.steps)
    turns = {(step.id, step.iteration) for step in result.steps}
    parts = (
        counted(len(turns), "step"),
        *([counted(totals.calls, "call")] if len(turns) < len(result.steps) else []),
        *([f"{counted(again, 'answer')} used again"] if again else []),
        tokens(totals.tokens, estimated=totals.estimated) + _of_them(totals),
        "no cost" if unreal else cost(totals.cost_usd, estimated=totals.estimated),
        seconds(totals.seconds),
        *(f"answered by {name}" for name in fallbacks(result)),
    )
    return (f"{unreal}, no model was called: " if unreal else "") + ", ".join(parts)


def step_spent(step: StepResult) -> str:
    """``431 tokens · $0.0012 · 12.3 s``, or ``431 tokens (200 cached, 90 thinking) · …``."""
    counts = tokens(step.usage.total_tokens, estimated=step.usage.estimated) + _of_them(step.usage)
    return f"{counts} · {step_cost(step)} · {seconds(step.seconds)}"


def step_tokens(step: StepResult) -> str:
    """The number without its unit, for a table: ``431``, ``431 (200 cached)``, ``about 431``, ``unknown``."""
    number, about = step.usage.total_tokens, "about " if step.usage.estimated else ""
    return ("unknown" if number is None else f"{about}{number:,}") + _of_them(step.usage)


def _of_them(used: Usage | Totals) -> str:
    """`` (200 cached, 50 written to the cache, 90 thinking)``, to follow a number of tokens."""
    parts = {
        "cached": used.cached_tokens,
        "written to the cache": used.written_tokens,
        "thinking": used.reasoning_tokens,
    }
    known = [f"{number:,} {name}" for name, number in parts.items() if number]
    return f" ({', '.join(known)})" if known else ""


def step_cost(step: StepResult) -> str:
    return cost(step.usage.cost_usd, estimated=step.usage.estimated)


def summary(findings: Sequence[Finding]) -> str:
    """``1 high, 2 low``, or ``none``."""
    counts = [(name, sum(finding.severity == name for finding in findings)) for name in SEVERITIES]
    return ", ".join(f"{count} {name}" for name, count in counts if count) or "none"


def finding(found: Finding) -> str:
    """``path:line: [high] message (id)``, as compilers write it; ``[high] message (id)`` without a path."""
    where, said = place_of(found), f"[{found.severity}] {message(found)}"
    return f"{where}: {said}" if where else said


def message(found: Finding) -> str:
    """``message (id)``, for a program that shows place and severity beside it."""
    name = f" ({one_line(found.id, 12)})" if found.id else ""
    return f"{one_line(found.message, 2000) or f'{found.severity} finding'}{dispute(found)}{name}"


def dispute(found: Finding) -> str:
    """`` (disputed by verify: why)`` for an open finding that code speaks against, to follow its message."""
    check = found.check
    if check is None or check.dropped:
        return ""
    return f" (disputed by {one_line(check.step, 60)}: {one_line(check.reason, 1000)})"


def drop(check: Check) -> str:
    """``dropped by verify: why (app.py:7)``, with the place of the code that proves it."""
    where = path_line(one_line(check.quote.path, 300), check.quote.line)
    return f"dropped by {one_line(check.step, 60)}: {one_line(check.reason, 1000)} ({where})"


def set_aside(result: RunResult) -> tuple[Message, ...]:
    """A note on each finding that does not count, with its reason, and on answers that cover nothing."""
    closed = (each for each in result.review.findings if not each.is_open)
    notes = [f"{finding(each)}; {why_closed(each)}" for each in closed]
    if unused := [one_line(each, 12) for each in result.review.unused]:
        one = len(unused) == 1
        answers = f"answer{'' if one else 's'} {capped(unused)}"
        notes.append(f"{answers} cover{'s' if one else ''} no finding of this run")
    return tuple(Message(note, "note") for note in notes)


def why_closed(found: Finding) -> str:
    """Why a finding does not count: who dropped it, what the answer to it says, or that it is gone."""
    if found.check is not None and found.check.dropped:
        return drop(found.check)
    if found.state == "resolved":
        return "resolved: it is no longer found"
    return "answered" + (f": {one_line(found.answer, 1000)}" if found.answer else "")


def resolution(each: Resolved) -> str:
    """``app.py:2: [high] message; resolved by 0123abcd``."""
    return f"{finding(each.finding)}; resolved by {one_line(each.commit[:12])}"


def reuse(result: RunResult) -> tuple[str, ...]:
    """Which answers were not asked for again, and why others were, each reason once."""
    steps: dict[str, list[str]] = {}
    for step in result.steps:
        for note in step.notes:
            if note.startswith(("not asked again:", "asked again:")):
                steps.setdefault(note, []).append(title(step))
    return tuple(f"{one_line(note, 500)} ({capped(names, 6)})" for note, names in steps.items())


def code_of(found: Finding) -> tuple[str, ...]:
    """The code that the finding is about, line by line, and after a ``+`` what is suggested instead."""
    mark = "|" if found.suggestion is None else "-"
    lines = [f"{mark} {line}" for line in (found.evidence or "").split("\n")] if found.evidence else []
    if found.suggestion:
        lines += [f"+ {line}" for line in found.suggestion.split("\n")]
    return tuple(terminal(line).replace("\n", " ") for line in lines)


def place_of(found: Finding) -> str:
    """``path:line``, marked if there is no such file; empty if the finding names no file."""
    if not found.path:
        return ""
    where = path_line(one_line(found.path, 300), found.line)
    return f"{where} (no such file)" if found.place == "nowhere" else where


def skipped(step: Skipped) -> str:
    """``review (pass 2): not called: nothing changed``."""
    return f"{one_line(step.step)}{pass_note(step.iteration)}: not called: {one_line(step.reason, 500)}"


def pass_note(iteration: int) -> str:
    """`` (pass 2)``, to follow a step's name; empty for the first pass."""
    return f" (pass {iteration})" if iteration > 1 else ""


def loop(ended: LoopResult) -> str:
    """``loop review -> implement: satisfied after 2 passes``."""
    passes = counted(ended.iterations, "pass", "passes")
    path = f"{one_line(ended.step, 60)} -> {one_line(ended.back_to, 60)}"
    return f"loop {path}: {ended.outcome} after {passes}"


def not_sent(receipts: Iterable[Receipt]) -> tuple[str, ...]:
    """What is missing from a prompt, completely or in part: ``z.py (over budget)``."""
    return tuple(
        f"{one_line(receipt.path or receipt.source)} ({one_line(reason_missing(receipt))})"
        for receipt in receipts
        if not receipt.complete
    )


def missing(receipts: Iterable[Receipt]) -> str:
    """What is missing from a prompt in one line: ``not sent: z.py (over budget)``; empty if nothing is."""
    said = describe_missing(receipts)
    return f"not sent: {one_line(said, 500)}" if said else ""


def remarks(receipts: Iterable[Receipt]) -> tuple[str, ...]:
    """Notes on what was sent completely, or is not missing: ``a.py, b.py: the diff shows all of it``."""
    noted: dict[tuple[str, str], list[str]] = {}
    for each in receipts:
        if each.complete and each.note and each.excluded is None and not each.empty:
            noted.setdefault((each.source, each.note), []).append(one_line(each.path or each.source))
    return tuple(f"{capped(names, FEW)}: {one_line(note, 500)}" for (_, note), names in noted.items())


def tokens(number: int | None, *, estimated: bool = False) -> str:
    """``431 tokens``, ``about 431 tokens``; None is unknown, never zero."""
    if number is None:
        return "tokens unknown"
    return ("about " if estimated else "") + counted(number, "token")


def cost(usd: float | None, *, estimated: bool = False) -> str:
    """Dollars to the cent, small amounts to two significant figures; None is unknown, never zero."""
    if usd is None:
        return "cost unknown"
    if 0 < usd < 0.0001:
        return "under $0.0001"
    about = "about " if estimated and usd else ""
    return about + (f"${usd:,.2f}" if usd == 0 or usd >= 0.01 else f"${usd:.4f}")


def seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def _describe_start(event: RunStarted) -> Iterator[Message]:
    """What the run reads, what it needs, and what of the change no prompt has."""
    if event.subject is not None:
        yield Message(subject(event.subject))
    if event.estimate is not None and event.estimate.most:
        yield Message(estimate(event.estimate))
    yield from _describe_left_out(event.left_out)
    fix = _remedy_missing(event.left_out)
    if fix and event.subject is not None and event.subject.reviewed:
        yield Message(f"so the review will be incomplete; to fix: {fix}", "note")


def _describe_left_out(receipts: Sequence[Receipt]) -> Iterator[Message]:
    """What is missing from a prompt, and what rules exclude from it."""
    if said := missing(receipts):
        yield Message(said, "warning")
    if left := [
        f"{one_line(each.path)} ({each.excluded})" for each in receipts if each.excluded and each.path
    ]:
        yield Message(f"excluded by rule: {capped(left)}", "note")


def _describe_recipients(result: RunResult) -> Iterator[Message]:
    """Who saw what, a line each."""
    from aethr.output.recipients import find_recipients  # only --verbose and reports need it

    for each in find_recipients(result):
        sent = f"{each.extent}, {each.bytes_sent:,} bytes of prompts, calls: {each.requests}"
        yield Message(f"sent to {each.name}: {each.reader}: {sent}", "note")


def _describe_prompt(event: StepPrepared, verbose: bool) -> tuple[Message, ...]:
    lines = [*_describe_left_out(event.receipts)]
    notes = remarks(event.receipts)
    lines += [Message(note, "note") for note in notes[:SHOWN]]
    if more := rest(len(notes), SHOWN, "note"):
        lines.append(Message(more, "note"))
    if verbose:
        size = f"{len(event.prompt):,} characters"
        lines.append(Message(f"prompt: {size}, sha256 {one_line(event.prompt_sha256)}", "note"))
    return tuple(lines)


def _describe_result(event: StepFinished) -> tuple[Message, ...]:
    step = event.result
    if event.replayed:
        return (Message(f"{title(step)}{pass_note(step.iteration)}: from the checkpoint"),)
    if step.skipped is not None:
        return (Message(f"not called: {one_line(step.skipped, 500)}"),)
    lines = [Message(one_line(note, 500), "note") for note in step.notes]
    if step.truncated:
        lines.append(Message(f"the answer was cut ({one_line(step.finish_reason)})", "warning"))
    if (edits := step.artifacts) is not None:
        if edits.changed_files:
            lines.append(Message(f"changed: {capped([one_line(name) for name in edits.changed_files])}"))
        elif not edits.unseen and not edits.generated:
            lines.append(Message("changed: nothing"))
        lines += [
            Message(f"changed and not reviewed: {one_line(name, 500)}", "warning") for name in edits.unseen
        ]
        lines += [Message(f"changed: {one_line(name, 500)}", "note") for name in edits.generated]
    return tuple(lines)


def _loop_message(ended: LoopResult) -> Message:
    return Message(loop(ended), "plain" if ended.outcome == "satisfied" else "warning")
