"""The page of a run: the comment on the pull request, and with more room the job summary (pure).

The first line of a comment is its marker. What a review said stands between two more lines of ours, so
that a later page can take it over, folded, when its own review could not take place. Nothing that a model,
a file or an error brings in can write such a line: ``output.markdown`` breaks every ``<!--``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from aethr import __version__
from aethr.errors import MEANINGS, AethrError, ExitCode
from aethr.github import marker, sections
from aethr.github.fit import Room, block_within, utf8_bytes, utf16_units
from aethr.github.marker import Marker
from aethr.github.sections import Blobs
from aethr.output import wording
from aethr.output.markdown import markdown_inline
from aethr.records import RunOutcome, RunResult, StepResult, Subject
from aethr.sanitize import terminal

COMMENT = Room(60_000, utf16_units, "The whole text is in the job summary and in the report file.")
"""GitHub takes 65,536 characters. The difference is for a later page, which has to hold this one's review."""
SUMMARY = Room(1_000_000, utf8_bytes, "The whole text is in the report file.")
"""A runner takes 1 MiB for one step."""
COMMENT_LIMIT = 65_536

WORDS = 4_000
"""What a list of notes or of reasons may take."""

_BEGIN, _END = "<!-- aethr:review -->", "<!-- aethr:end -->"


class Page(NamedTuple):
    """What there is to say. ``result`` is None where nothing ran; then ``error`` says why.

    ``exit_code`` is that of the step, ``notes`` are plain lines, such as what was finished before.
    """

    blobs: Blobs
    run_url: str
    exit_code: ExitCode
    result: RunResult | None = None
    error: AethrError | None = None
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> RunOutcome:
        return self.result.outcome if self.result is not None else "not-reviewed"


def comment(page: Page, mark: Marker, previous: str | None) -> str:
    """The comment's whole text, never over GitHub's limit; ``previous`` is what it said before."""
    if page.outcome != "not-reviewed":
        head = f"{Marker(mark.key, mark.run, mark.attempt, mark.head, mark.head)}\n{_heading(page)}"
        review = f"{_BEGIN}\n{_joined(_verdict(page), _body(page, COMMENT))}\n{_END}"
        return _joined(head, review, _footer(page)) + "\n"
    return next(text for text in _unreviewed(page, mark, previous) if COMMENT.measure(text) <= COMMENT_LIMIT)


def summary(page: Page) -> str:
    """The job summary: the same, with more room and without a marker."""
    return _joined(_heading(page), _verdict(page), _body(page, SUMMARY), _footer(page)) + "\n"


def refusal(error: AethrError) -> str:
    """The job summary of a step that could not even begin."""
    return f"### Aethr: not reviewed\n\n{_reason(error, error.exit_code)}\n"


def _unreviewed(page: Page, mark: Marker, previous: str | None) -> Iterator[str]:
    """Why there is no review, what was said all the same, and the last review; then less and less of it."""
    kept, of = _kept(previous)
    last = sections.folded(f"The last review, of {of[:12]}", f"{_BEGIN}\n{kept}\n{_END}") if of else ""
    bare = Marker(mark.key, mark.run, mark.attempt, mark.head)
    half = Room(COMMENT_LIMIT // 2, COMMENT.measure, COMMENT.rest)
    for marked, body, folded in (
        (bare._replace(reviewed=of), _body(page, half), last),
        (bare._replace(reviewed=of), "", last),
        (bare, _body(page, half), ""),
    ):
        yield _joined(f"{marked}\n{_heading(page)}", _verdict(page), body, folded, _footer(page)) + "\n"
    yield _joined(f"{bare}\n{_heading(page)}", COMMENT.rest, _footer(page)) + "\n"


def _joined(*parts: str) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part.strip("\n"))


def _heading(page: Page) -> str:
    said = page.outcome.replace("-", " ")
    if page.result is not None and not page.result.is_live and page.outcome == "not-reviewed":
        said += f" ({wording.UNREAL[page.result.mode]})"
    return f"### Aethr: {said} · `{page.blobs.commit[:12]}`"


def _reason(error: AethrError, exit_code: ExitCode) -> str:
    title = f"**{markdown_inline(MEANINGS[error.exit_code])}** (exit code {int(exit_code)})"
    said = sections.listed(str(error).split("\n"), WORDS, utf16_units)
    return _joined(title, said, markdown_inline(error.fix, 400))


def _verdict(page: Page) -> str:
    """What stopped the run, the verdict in words, how much of the change it is of, and notes."""
    failure = _reason(page.error, page.exit_code) if page.error is not None else ""
    if page.result is None or (failure and page.outcome == "not-reviewed"):
        return _joined(failure, _notes(page))
    said = f"**{markdown_inline(wording.verdict(page.result).text)}**"
    review = page.result.review
    facts = [f"{_subject(page.result.subject)}."] if page.result.subject is not None else []
    facts += [f"Findings: {wording.summary(review.findings)}."] if review.status != "none" else []
    if review.coverage is not None:
        facts.append(f"Sent to the reviewer: {int(review.coverage * 100)}% of the changed lines.")
    return _joined(failure, said, " ".join(facts), _notes(page))


def _subject(read: Subject) -> str:
    said = wording.subject(read)
    return markdown_inline(said[:1].upper() + said[1:], 400)


def _notes(page: Page) -> str:
    return sections.listed(page.notes, WORDS, utf16_units)


def _body(page: Page, room: Room) -> str:
    """Findings, what was not sent, the receipt, each with its share; the answer gets what they leave."""
    if page.result is None or not page.result.steps:
        return ""
    result, measure = page.result, room.measure
    findings = sections.findings(result.review.findings, page.blobs, room.limit // 3, measure)
    after = (
        sections.not_sent(result, room.limit // 8, measure),
        sections.receipt(result, room.limit // 6, measure),
    )
    used = sum(measure(part) for part in (findings, *after)) + 2 * WORDS
    return _joined(findings, _answer(result.steps[-1], room, room.limit - used), *after)


def _answer(last: StepResult, room: Room, left: int) -> str:
    """The last step's answer: the panel that a terminal would show last."""
    title = f"#### {markdown_inline(last.id, 80)}"
    text, cut = block_within(terminal(last.content).strip("\n"), left, room.measure)
    return _joined(title, text, f"*The answer is cut here. {room.rest}*" if cut else "")


def _kept(previous: str | None) -> tuple[str, str | None]:
    """The review that the comment holds, and the commit it is of."""
    if previous is None:
        return "", None
    mark = marker.read(previous)
    text = previous.replace("\r\n", "\n")
    if mark is None or mark.reviewed is None or _BEGIN not in text or _END not in text:
        return "", None
    kept = text.split(f"{_BEGIN}\n", 1)[-1].rsplit(f"\n{_END}", 1)[0]
    fits = COMMENT.measure(kept) <= COMMENT.limit
    return (kept, mark.reviewed) if fits else ("", None)


def _footer(page: Page) -> str:
    run = f"[This run]({page.run_url})"
    return f"<sub>{run} · Aethr {__version__} · written by a language model: check it.</sub>"
