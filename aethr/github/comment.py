"""The page of a run: the comment on the pull request, and with more room the job summary (pure).

The first line of a comment is its marker. What a review said stands between two more lines of ours, so
that a later page can take it over, folded, when its own review could not take place. Nothing that a model,
a file or an error brings in can write such a line: ``output.markdown`` breaks every ``<!--``. All of it fits
the limit that GitHub sets, cut where a reader would cut it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import escape
from typing import NamedTuple
from urllib.parse import quote

from aethr import __version__
from aethr.base.errors import MEANINGS, AethrError, ExitCode
from aethr.base.records import Finding, RunOutcome, RunResult, StepResult, Subject
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

Measure = Callable[[str], int]


def utf16_units(text: str) -> int:
    """Never less than the characters that GitHub counts in a comment."""
    return len(text.encode("utf-16-le", "replace")) // 2


def utf8_bytes(text: str) -> int:
    """What a runner counts in a job summary."""
    return len(text.encode("utf-8", "replace"))


class Room(NamedTuple):
    """How much may be written, in which unit, and where a reader finds the rest."""

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
    """``text`` as harmless Markdown within ``limit``, every fence closed; and whether it had to be cut."""
    block, count = markdown_block(text), len(text)
    while count and (size := measure(block)) > limit:
        count = max(0, min(count - 1, count * limit // size))
        block = markdown_block(_cut(text, count)) if count else ""
    return block, count < len(text)


def _cut(text: str, count: int) -> str:
    """At most ``count`` characters: to a paragraph's end in the last half, else a line's, else anywhere."""
    for end in ("\n\n", "\n"):
        found = text.rfind(end, count // 2, count)
        if found > 0:
            return text[:found]
    return text[:count]


class Blobs(NamedTuple):
    """Where the files of one commit are on the server, for links."""

    server_url: str
    repository: str
    commit: str

    def link(self, path: str, line: int | None) -> str:
        name = "/".join(quote(part, safe="") for part in path.split("/"))
        anchor = f"#L{line}" if line is not None else ""
        return f"{self.server_url}/{self.repository}/blob/{self.commit}/{name}{anchor}"


def findings_section(found: Sequence[Finding], blobs: Blobs, limit: int, measure: Measure) -> str:
    """A table, most severe first; a last line says how many did not fit."""
    return findings_table(found, partial(_address, blobs), _within(limit, measure))


def not_sent(result: RunResult, limit: int, measure: Measure) -> str:
    """What the models did not get to see."""
    receipts = dict.fromkeys(receipt for step in result.steps for receipt in step.context)
    items = wording.not_sent(receipts)
    return f"**Not sent to the model:**\n\n{listed(items, limit, measure)}" if items else ""


def receipt(result: RunResult, limit: int, measure: Measure) -> str:
    """Folded: steps, models, context, tokens, cost, the loops, and a map of the run."""
    steps = steps_table(result, _within(limit // 2, measure))
    loops = listed([wording.loop(loop) for loop in result.loops], limit // 4, measure)
    parts = (steps, loops, run_flowchart(result))
    return fold(f"Receipt: {wording.spent(result)}", "\n\n".join(part for part in parts if part))


def listed(items: Sequence[str], limit: int, measure: Measure) -> str:
    """A list of plain lines; the last one says how many did not fit."""
    return bullets(items, _within(limit, measure))


def fold(title: str, body: str) -> str:
    """``title`` is HTML to GitHub, not Markdown."""
    return f"<details>\n<summary>{escape(title)}</summary>\n\n{body.strip()}\n\n</details>"


def _within(limit: int, measure: Measure) -> Fitting:
    return partial(rows_within, limit=limit, measure=measure)


def _address(blobs: Blobs, found: Finding) -> str | None:
    """A link, if the path is, or can be, one of the repository."""
    path = found.path or ""
    unsure = found.place == "nowhere" or any(part in ("", ".", "..") for part in path.split("/"))
    return None if unsure or len(path) > 400 or not _encodable(path) else blobs.link(path, found.line)


def _encodable(path: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in path)


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
    last = fold(f"The last review, of {of[:12]}", f"{_BEGIN}\n{kept}\n{_END}") if of else ""
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
    said = listed(str(error).split("\n"), WORDS, utf16_units)
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
    return listed(page.notes, WORDS, utf16_units)


def _body(page: Page, room: Room) -> str:
    """Findings, what was not sent, the receipt, each with its share; the answer gets what they leave."""
    if page.result is None or not page.result.steps:
        return ""
    result, measure = page.result, room.measure
    findings = findings_section(result.review.findings, page.blobs, room.limit // 3, measure)
    after = (
        not_sent(result, room.limit // 8, measure),
        receipt(result, room.limit // 6, measure),
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
