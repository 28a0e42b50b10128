"""The page of a run: the comment on the pull request, and with more room the job summary (pure).

The first line of a comment is its marker. Two more such lines enclose the review, so that a later page
without a review of its own can keep it, folded. No model, file or error can write these lines, because
``output.markdown`` breaks every ``<!--``. The page fits GitHub's limit, cut between paragraphs if possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from html import escape
from typing import NamedTuple
from urllib.parse import quote

from aethr import __version__
from aethr.base.errors import MEANINGS, AethrError, ExitCode
from aethr.base.records import Finding, Receipt, RunOutcome, RunResult
from aethr.base.sanitize import terminal
from aethr.github import upsert
from aethr.github.upsert import Marker
from aethr.output import wording
from aethr.output.markdown import (
    Fitting,
    bullets,
    findings_table,
    markdown_block,
    markdown_inline,
    run_flowchart,
    steps_table,
)
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
        return f"{self.server_url}/{self.repository}/blob/{self.commit}/{name}{anchor}"


def listed(items: Sequence[str], limit: int, measure: Measure) -> str:
    """A list of plain lines; the last one says how many did not fit."""
    return bullets(items, _within(limit, measure))


def fold(title: str, body: str) -> str:
    """``title`` is HTML to GitHub, not Markdown."""
    return f"<details>\n<summary>{escape(title)}</summary>\n\n{body.strip()}\n\n</details>"


def _within(limit: int, measure: Measure) -> Fitting:
    return partial(rows_within, limit=limit, measure=measure)


COMMENT = Room(60_000, utf16_units, "The whole text is in the job summary and in the report file.")
"""GitHub's limit is 65,536 characters. The rest is for a later page, which has to hold this one's review."""
SUMMARY = Room(1_000_000, utf8_bytes, "The whole text is in the report file.")
"""A runner's limit is 1 MiB for each step."""
COMMENT_LIMIT = 65_536

WORDS = 4_000
"""The limit of a list of notes or reasons."""

_BEGIN, _END = "<!-- aethr:review -->", "<!-- aethr:end -->"


class Page(NamedTuple):
    """The content of a page. ``result`` is None if nothing ran; then ``error`` says why.

    ``exit_code`` is the step's, ``notes`` are plain lines, such as which steps were finished before.
    ``beside`` are the findings that stand beside their lines, and so not on this page.
    """

    blobs: Blobs
    run_url: str
    exit_code: ExitCode
    result: RunResult | None = None
    error: AethrError | None = None
    notes: tuple[str, ...] = ()
    beside: tuple[Finding, ...] = ()

    @property
    def outcome(self) -> RunOutcome:
        return self.result.outcome if self.result is not None else "not-reviewed"


def comment(page: Page, mark: Marker, previous: str | None) -> str:
    """The comment's whole text, within GitHub's limit; ``previous`` is its text before."""
    if page.outcome != "not-reviewed":
        head = f"{Marker(mark.key, mark.run, mark.attempt, mark.head, mark.head)}\n{_heading(page)}"
        review = f"{_BEGIN}\n{_join(_verdict(page), _body(page, COMMENT))}\n{_END}"
        return _join(head, review, _footer(page)) + "\n"
    return next(text for text in _unreviewed(page, mark, previous) if COMMENT.measure(text) <= COMMENT_LIMIT)


def summary(page: Page) -> str:
    """The job summary: the comment with more room and without its marker."""
    return _join(_heading(page), _verdict(page), _body(page, SUMMARY), _footer(page)) + "\n"


def refusal(error: AethrError) -> str:
    """The job summary of a step that could not start."""
    return f"### Aethr: not reviewed\n\n{_reason(error, error.exit_code)}\n"


def _unreviewed(page: Page, mark: Marker, previous: str | None) -> Iterator[str]:
    """Why there is no review, what the steps said, and the last review; then the same with less and less."""
    kept, of = _find_review(previous)
    last = fold(f"The last review, of {of[:12]}", f"{_BEGIN}\n{kept}\n{_END}") if of else ""
    bare = Marker(mark.key, mark.run, mark.attempt, mark.head)
    half = Room(COMMENT_LIMIT // 2, COMMENT.measure, COMMENT.rest)
    for marked, body, folded in (
        (bare._replace(reviewed=of), _body(page, half), last),
        (bare._replace(reviewed=of), "", last),
        (bare, _body(page, half), ""),
    ):
        yield _join(f"{marked}\n{_heading(page)}", _verdict(page), body, folded, _footer(page)) + "\n"
    yield _join(f"{bare}\n{_heading(page)}", COMMENT.rest, _footer(page)) + "\n"


def _join(*parts: str) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part.strip("\n"))


def _heading(page: Page) -> str:
    said = page.outcome.replace("-", " ")
    if page.result is not None and page.result.shard is not None:
        said = f"shard {page.result.shard.number} of {page.result.shard.of}, not a verdict"
    elif page.result is not None and not page.result.is_live and page.outcome == "not-reviewed":
        said += f" ({wording.UNREAL[page.result.mode]})"
    return f"### Aethr: {said} · `{page.blobs.commit[:12]}`"


def _reason(error: AethrError, exit_code: ExitCode) -> str:
    title = f"**{markdown_inline(MEANINGS[error.exit_code])}** (exit code {int(exit_code)})"
    said = listed(str(error).split("\n"), WORDS, utf16_units)
    return _join(title, said, markdown_inline(error.fix, 400))


def _verdict(page: Page) -> str:
    """What stopped the run, the verdict in words, how much of the change it covers, and notes."""
    failure = _reason(page.error, page.exit_code) if page.error is not None else ""
    notes = listed(page.notes, WORDS, utf16_units)
    if page.result is None or (failure and page.outcome == "not-reviewed"):
        return _join(failure, notes)
    said = f"**{markdown_inline(wording.verdict(page.result).text)}**"
    review = page.result.review
    facts = []
    if page.result.subject is not None:
        subject = wording.subject(page.result.subject)
        facts.append(f"{markdown_inline(subject[:1].upper() + subject[1:], 400)}.")
    facts += [f"Findings: {wording.summary(review.findings)}."] if review.status != "none" else []
    if review.coverage is not None:
        facts.append(f"Sent to the reviewer: {int(review.coverage * 100)}% of the changed lines.")
    return _join(failure, said, " ".join(facts), notes)


def _body(page: Page, room: Room) -> str:
    """Findings, the last step's answer in the room that is left, what was not sent, and receipts."""
    if page.result is None:
        return ""
    result, measure = page.result, room.measure
    names = listed(wording.excluded(result), room.limit // 8, measure)
    excluded = f"**Excluded by rule:**\n\n{names}" if names else ""
    if not result.steps:
        return excluded
    here = [each for each in result.review.findings if each not in page.beside]
    findings = _join(
        f"Beside the code: {wording.summary(page.beside)}." if page.beside else "",
        findings_table(here, page.blobs.link, _within(room.limit // 3, measure)),
    )
    not_sent = _missing(result.receipts, room)
    steps = steps_table(result, _within(room.limit // 12, measure))
    loops = listed([wording.loop(loop) for loop in result.loops], room.limit // 24, measure)
    receipt = fold(
        f"Receipt: {wording.spent(result)}{wording.expected_cost(result)}",
        _join(steps, loops, run_flowchart(result)),
    )
    used = sum(measure(part) for part in (findings, not_sent, excluded, receipt)) + 2 * WORDS
    answers: list[str] = []
    left = room.limit - used
    for number, last in enumerate(result.last_answers):
        share = left // (len(result.last_answers) - number)
        text, cut = block_within(terminal(last.content).strip("\n"), share, measure)
        note = f"*The answer is cut here. {room.rest}*" if cut else ""
        answers += [f"#### {markdown_inline(wording.title(last), 80)}", text, note]
        left -= measure(text)
    return _join(findings, *answers, not_sent, excluded, receipt)


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
