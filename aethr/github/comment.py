"""The page of a run: the comment on the pull request, and with more room the job summary (pure).

The first line of a comment is its marker. Two more such lines enclose the review, so that a later page
without a review of its own can keep it, folded. No model, file or error can write these lines, because
``output.markdown`` breaks every ``<!--``. The page fits GitHub's limit, cut between paragraphs if possible.
Below it, one more such line has the sealed state for the next run (``run.kept``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

from aethr import __version__
from aethr.base.errors import MEANINGS, AethrError, ExitCode
from aethr.base.records import Finding, Receipt, RunOutcome, RunResult
from aethr.base.sanitize import one_line
from aethr.base.words import capped, counted
from aethr.github import upsert
from aethr.github.proposal import Proposal
from aethr.github.upsert import Marker
from aethr.output import wording
from aethr.output.markdown import (
    Fitting,
    bullets,
    fence,
    fold,
    markdown_block,
    markdown_inline,
    recipients_table,
    run_flowchart,
    steps_table,
)
from aethr.output.page import answer, findings_by_file, set_aside
from aethr.output.recipients import find_recipients
from aethr.review import FEW

Measure = Callable[[str], int]


def utf16_units(text: str) -> int:
    """The length of a comment; at least the number of characters that GitHub counts."""
    return len(text.encode("utf-16-le", "replace")) // 2


def utf8_bytes(text: str) -> int:
    """The length of a job summary, as a runner counts it."""
    return len(text.encode("utf-8", "replace"))


class Room(NamedTuple):
    """How much fits, in which unit, and where a reader finds the rest."""

    limit: int
    measure: Measure
    rest: str


def rows_within(rows: Sequence[str], limit: int, measure: Measure) -> tuple[str, ...]:
    """As many of the first rows as fit, a newline after each."""
    total = 0
    for number, row in enumerate(rows):
        total += measure(row) + 1
        if total > limit:
            return tuple(rows[:number])
    return tuple(rows)


def block_within(text: str, limit: int, measure: Measure) -> tuple[str, bool]:
    """``text`` as harmless Markdown within ``limit``, every fence closed; and whether it was cut.

    It is cut at the end of a paragraph in the second half, or else of a line, or else anywhere.
    """
    block, count = markdown_block(text), len(text)
    while count and (size := measure(block)) > limit:
        count = max(0, min(count - 1, count * limit // size))
        ends = (text.rfind(end, count // 2, count) for end in ("\n\n", "\n"))
        end = next((end for end in ends if end > 0), count)
        block = markdown_block(text[:end]) if count else ""
    return block, count < len(text)


class Blobs(NamedTuple):
    """The files of one commit on the server, for links."""

    server_url: str
    repository: str
    commit: str

    def link(self, found: Finding) -> str | None:
        """The address of a finding's line, if its path can be one of the repository."""
        path = found.path or ""
        unsure = found.place == "nowhere" or any(part in ("", ".", "..") for part in path.split("/"))
        if unsure or len(path) > 400 or any("\ud800" <= char <= "\udfff" for char in path):
            return None
        name = "/".join(quote(part, safe="") for part in path.split("/"))
        anchor = f"#L{found.line}" if found.line is not None else ""
        if anchor and found.end_line is not None and found.end_line > (found.line or 0):
            anchor += f"-L{found.end_line}"
        return f"{self.server_url}/{self.repository}/blob/{self.commit}/{name}{anchor}"


def listed(items: Sequence[str], limit: int, measure: Measure) -> str:
    """A list of plain lines; the last one says how many did not fit."""
    return bullets(items, _within(limit, measure))


def _within(limit: int, measure: Measure) -> Fitting:
    return partial(rows_within, limit=limit, measure=measure)


COMMENT = Room(60_000, utf16_units, "The whole text is in the job summary and in the report file.")
"""GitHub's limit is 65,536 characters. The rest is for a later page, which has to hold this one's review."""
SUMMARY = Room(1_000_000, utf8_bytes, "The whole text is in the report file.")
"""A runner's limit is 1 MiB for each step."""
COMMENT_LIMIT = 65_536
COMMENT_BYTES = 240_000
"""Of the page and the state: github.com takes 262,144 bytes, more than its message about the limit says."""

WORDS = 4_000
"""The limit of a list of notes or reasons."""

_BEGIN, _END = "<!-- aethr:review -->", "<!-- aethr:end -->"
_STATE = "<!-- aethr:state "


class Page(NamedTuple):
    """The content of a page. ``result`` is None if nothing ran; then ``error`` says why.

    ``exit_code`` is the step's, ``notes`` are plain lines, such as which steps were finished before.
    ``beside`` are the findings that stand beside their lines, and so not on this page. ``proposal`` is what
    the change proposes for the workflow.
    """

    blobs: Blobs
    run_url: str
    exit_code: ExitCode
    result: RunResult | None = None
    error: AethrError | None = None
    notes: tuple[str, ...] = ()
    beside: tuple[Finding, ...] = ()
    proposal: Proposal | None = None

    @property
    def outcome(self) -> RunOutcome:
        return self.result.outcome if self.result is not None else "not-reviewed"


def comment(page: Page, mark: Marker, previous: str | None) -> str:
    """The comment's whole text, within GitHub's limit; ``previous`` is its text before."""
    if page.outcome != "not-reviewed":
        marked = Marker(mark.key, mark.run, mark.attempt, mark.head, mark.head)
        review = _join(_heading(page), _reason(page), _body(page, COMMENT))
        return _join(f"{marked}\n{_BEGIN}\n{review}\n{_END}", _footer(page)) + "\n"
    return next(text for text in _unreviewed(page, mark, previous) if COMMENT.measure(text) <= COMMENT_LIMIT)


def measure_room(text: str) -> int:
    """How many ASCII characters of state fit below the page ``text``."""
    return COMMENT_BYTES - utf8_bytes(text) - len(f"\n{_STATE} -->\n")


def add_state(text: str, state: str) -> str:
    """The page with a state below it; an empty one, or one that does not fit, adds nothing."""
    return f"{text}\n{_STATE}{state} -->\n" if 0 < len(state) <= measure_room(text) else text


def find_state(body: str) -> str:
    """The state in a comment, whatever it is; empty without one."""
    lines = [line for line in body.splitlines() if line.startswith(_STATE)]
    return lines[-1].removeprefix(_STATE).removesuffix(" -->") if lines else ""


def summary(page: Page) -> str:
    """The job summary: the comment with more room and without its marker."""
    return _join(_heading(page), _reason(page, SUMMARY), _body(page, SUMMARY), _footer(page)) + "\n"


def refusal(error: AethrError) -> str:
    """The job summary of a step that could not start."""
    return f"### Aethr: not reviewed\n\n{_failure(error, error.exit_code)}\n"


def _unreviewed(page: Page, mark: Marker, previous: str | None) -> Iterator[str]:
    """Why there is no review, what the steps said, and the last review; then the same with less and less."""
    kept, of = _find_review(previous)
    last = fold(f"The last review, of {of[:12]}", f"{_BEGIN}\n{kept}\n{_END}") if of else ""
    bare = Marker(mark.key, mark.run, mark.attempt, mark.head)
    half = Room(COMMENT_LIMIT // 2, COMMENT.measure, COMMENT.rest)
    for marked, body, folded in (
        (bare._replace(reviewed=of), _body(page, half), last),
        (bare._replace(reviewed=of), listed(page.notes, WORDS, utf16_units), last),
        (bare, _body(page, half), ""),
    ):
        yield _join(f"{marked}\n{_heading(page)}", _reason(page), body, folded, _footer(page)) + "\n"
    yield _join(f"{bare}\n{_heading(page)}", COMMENT.rest, _footer(page)) + "\n"


def _join(*parts: str) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part.strip("\n"))


def _heading(page: Page) -> str:
    """The outcome, the commit, and the findings in numbers: all that a notification shows."""
    said = page.outcome.replace("-", " ")
    if page.result is not None and page.result.shard is not None:
        said = f"shard {page.result.shard.number} of {page.result.shard.of}, not a verdict"
    elif page.result is not None and not page.result.is_live and page.outcome == "not-reviewed":
        said += f" ({wording.UNREAL[page.result.mode]})"
    counts = wording.counts(page.result.review) if page.result is not None else ()
    if page.result is not None and (
        gone := sum(each.commit == page.blobs.commit for each in page.result.review.resolved)
    ):
        counts = (*counts, f"{gone:,} resolved")
    return " · ".join((f"### Aethr: {said}", f"`{page.blobs.commit[:12]}`", *map(markdown_inline, counts)))


def _failure(error: AethrError, exit_code: ExitCode) -> str:
    title = f"**{markdown_inline(MEANINGS[error.exit_code])}** (exit code {int(exit_code)})"
    said = listed(str(error).split("\n"), WORDS, utf16_units)
    return _join(title, said, markdown_inline(error.fix, 400))


def _reason(page: Page, room: Room = COMMENT) -> str:
    """What stopped the run, why the outcome is neither a pass nor a revise, and why the gate closed."""
    failure = _failure(page.error, page.exit_code) if page.error is not None else ""
    result = page.result
    if result is None or (failure and page.outcome == "not-reviewed"):
        return failure
    why = status = ""
    if result.outcome not in ("pass", "revise"):
        why = (
            _missing(result.receipts, room)
            if _is_missing(result)
            else f"**{_sentence(result.review.reason)}**"
        )
        lead = "On what was sent" if result.outcome == "incomplete" else "The answers say"
        status = f"{lead}: {result.review.status}." if result.review.status != "none" else ""
    told = result.exit_code == ExitCode.NOT_REVIEWED and _is_missing(result)
    gate = [] if told else [_sentence(line.text) for line in wording.why_not_passed(result)]
    return _join(failure, status, why, *gate)


def _is_missing(result: RunResult) -> bool:
    """Whether what was not sent makes the review unreliable; then it stands above the findings."""
    return (result.review.reason or "").startswith("not sent: ") and bool(wording.missing(result.receipts))


def _sentence(text: str | None) -> str:
    said = one_line(text or "there is no verdict", 500).rstrip(".")
    return markdown_inline(f"{said[:1].upper()}{said[1:]}.")


def _body(page: Page, room: Room) -> str:
    """Findings, what the last answers add in the room that is left, notes on what was sent, receipt."""
    result, measure = page.result, room.measure
    if result is None or not result.steps:
        return _notes(page, room)
    here = [each for each in result.review.open if each not in page.beside]
    findings = _join(
        f"Beside the code: {wording.summary(page.beside)}." if page.beside else "",
        findings_by_file(
            here, page.blobs.link, _within(room.limit // 3, measure), _within(room.limit // 8, measure)
        ),
    )
    gone = [wording.resolution(each) for each in result.review.resolved]
    aside = _join(
        set_aside(result.review.findings, _within(room.limit // 24, measure)),
        fold(f"Resolved: {len(gone)}", listed(gone, room.limit // 24, measure)) if gone else "",
    )
    notes = _notes(page, room)
    steps = steps_table(result, _within(room.limit // 12, measure))
    loops = listed([wording.loop(loop) for loop in result.loops], room.limit // 24, measure)
    receipt = fold(
        f"Receipt: {wording.spent(result)}{wording.expected_cost(result)}",
        _join(
            steps,
            listed(wording.reuse(result), room.limit // 24, measure),
            "**Who saw what**",
            recipients_table(find_recipients(result), _within(room.limit // 24, measure)),
            loops,
            run_flowchart(result),
        ),
    )
    left = room.limit - sum(map(measure, (findings, aside, notes, receipt))) - WORDS
    answers: list[str] = []

    def show(text: str) -> str:
        block, cut = block_within(text, max(0, share - measure("".join(shown))), measure)
        shown.append(block)
        return _join(block, f"*The answer is cut here. {room.rest}*" if cut else "")

    for number, last in enumerate(result.last_answers):
        share, shown = left // (len(result.last_answers) - number), list[str]()
        answers.append(answer(last, result, show))
        left -= measure(answers[-1])
    return _join(findings, aside, *answers, notes, receipt)


def _notes(page: Page, room: Room = COMMENT) -> str:
    """What was read, how much of it was sent, what was not and why, and the notes of the step."""
    result, facts = page.result, list[str]()
    if result is None:
        return _join(listed(page.notes, WORDS, utf16_units), _proposal(page, room))
    if result.subject is not None:
        facts.append(_sentence(wording.subject(result.subject)))
    if result.review.coverage is not None:
        facts.append(f"Sent to the reviewer: {int(result.review.coverage * 100)}% of the changed lines.")
    missing = "" if _is_missing(result) else _missing(result.receipts, room)
    names = listed(wording.excluded(result), room.limit // 8, room.measure)
    excluded = f"**Excluded by rule:**\n\n{names}" if names else ""
    notes = listed(page.notes, WORDS, utf16_units)
    return _join(" ".join(facts), notes, missing, excluded, _proposal(page, room))


SHORT = 12
"""Lines of a difference that are not folded."""


def _proposal(page: Page, room: Room) -> str:
    """What the change does to the workflow, as a diff: text of the change, which nothing here renders."""
    proposal = page.proposal
    if proposal is None:
        return ""
    edits = f"This pull request edits {capped(proposal.files)}."
    title = f"**{markdown_inline(edits)}** The workflow of the {proposal.reviewer} reviews it."
    if proposal.failure:
        first = [mistake.partition("\n")[0] for mistake in proposal.failure]
        return _join(f"{title} What it changes cannot be read:", listed(first, room.limit // 8, room.measure))
    if not proposal.lines:
        return f"{title} What a run does stays the same."
    lines = [one_line(f"|{line}", 200)[1:] for line in proposal.lines]
    kept = rows_within(lines, room.limit // 8, room.measure)
    more = len(lines) - len(kept)
    rest = (
        f"{counted(more, 'more line')} of the difference: `aethr check --against` prints all." if more else ""
    )
    code = _join(fence(kept, "diff"), rest)
    if len(lines) <= SHORT:
        return _join(f"{title} Merged, it changes:", code)
    return _join(title, fold(f"What it changes: {counted(len(lines), 'line')}", code))


def _missing(receipts: Iterable[Receipt], room: Room) -> str:
    """What was not sent, in one line; below it all of it, folded, if that does not name everything."""
    said, items = wording.missing(receipts), wording.not_sent(receipts)
    if not items:
        return ""
    lines = f"**N{markdown_inline(said[1:])}.** To fix: {markdown_inline(wording.REMEDY)}."
    if len(items) <= FEW:
        return lines
    return _join(lines, fold(f"All {len(items):,} of them", listed(items, room.limit // 8, room.measure)))


def _find_review(previous: str | None) -> tuple[str, str | None]:
    """The review in the comment, and the commit that it reviews."""
    if previous is None:
        return "", None
    mark = upsert.read(previous)
    text = previous.replace("\r\n", "\n")
    if mark is None or mark.reviewed is None or _BEGIN not in text or _END not in text:
        return "", None
    kept = text.split(f"{_BEGIN}\n", 1)[-1].rsplit(f"\n{_END}", 1)[0]
    fits = COMMENT.measure(kept) <= COMMENT.limit
    return (kept, mark.reviewed) if fits else ("", None)


def _footer(page: Page) -> str:
    run = f"[This run]({page.run_url})"
    return f"<sub>{run} · Aethr {__version__} · written by a language model: check it.</sub>"
