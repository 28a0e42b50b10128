"""What a verifying step is asked, and what its answer proves (pure).

A finding is dropped only with lines of code that the step's prompt had: whoever writes a finding, a title or
an answer can invent words, but not those. The reader is tolerant of form and strict about meaning: whatever
is not plainly dropped and proven stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from aethr.base.records import SEVERITIES, Check, Finding, Quote, Review, StepResult
from aethr.base.words import path_line
from aethr.review import LISTED, code_below, conclude, read_lines
from aethr.review.lines import Code, Line

LEAST = 20
"""A quotation needs this many letters and digits: a bracket, or an empty line, stands in any code."""

CONTRACT = """\
Decide for each finding in the block "findings", by its number, whether it holds against the code above.
Write one line for each, in one of these two forms:
- 1: stands
- 2: dropped — why the finding is wrong
Drop a finding only if lines of code above prove that it is wrong; in any doubt it stands. Below each line
with "dropped" quote these lines in a fenced code block: from a change or a file above, whole, one after the
other as they stand there. Lines that the finding itself quotes prove nothing.
The very last line, once every finding is decided, is this one, alone on its line:
Checked: all"""

Find = Callable[[str, "str | None", "int | None"], Sequence[Quote]]
"""Where lines stand in the code of the prompt, the best place first: by their text, a path and a line."""

_DECISION = re.compile(
    r"\W*(?:finding\s*)?#?(?P<number>\d{1,6})\s*(?:[:.)=\]—–-]|->|→|\bis\b)+\s*\W{0,4}"
    r"(?P<word>stands?|drop(?:ped)?)\b\W{0,4}?(?:\s*[:;,.(—–-]+\s*(?P<reason>.*))?\s*\W*",
    re.IGNORECASE | re.DOTALL,
)
_STANDS = re.compile(r"\bstands?\b|\b(?:not|never|cannot|can't|nothing is)\s+(?:be\s+)?drop", re.IGNORECASE)
"""Words that take a drop back, wherever they stand in a line that is not code."""
_ALL = re.compile(r"\b(?:all|every\w*|each|none|nothing|both)\b", re.IGNORECASE)
_COMMENT = re.compile(
    r"\s*(?:#[\s!]|#$|//|/\*|\*[\s/]|\*$|--\s|--$|;;|<!--|%\s|\"\"\"|'''|REM\s)", re.IGNORECASE
)
"""The beginning of a line that is a comment in a usual language; ``#include`` and ``*pointer`` are not."""
_PROSE = (".md", ".markdown", ".rst", ".txt", ".adoc")
_END = re.compile(r"\W*checked\s*(?:[:=—–-]\s*)?all\W*", re.IGNORECASE)


class _Drop(NamedTuple):
    """A finding that an answer says is wrong: why, and the code that it quotes."""

    reason: str
    code: tuple[Code, ...]


def list_findings(findings: Iterable[Finding]) -> str:
    """The findings as the prompt has them, numbered from 1, each with the code that it quotes."""
    return "\n".join(_entry(number, each) for number, each in enumerate(findings, start=1))


def _entry(number: int, finding: Finding) -> str:
    where = f"{path_line(finding.path, finding.line)} — " if finding.path else ""
    code = [f"    {line}" for line in (finding.evidence or "").splitlines() if line.strip()]
    said = " ".join(finding.message.split())
    return "\n".join((f"{number}. [{finding.severity}] {where}{said}", *code))


def fit(findings: Iterable[Finding], answers: Iterable[StepResult]) -> tuple[Finding, ...]:
    """As many of the findings in these answers as a prompt lists: it has a limit, which the estimate counts.

    Only an answer of very many very short findings passes it; those after the limit stay open.
    """
    left = LISTED * sum(len(each.content.encode("utf-8", "replace")) for each in answers)
    kept: list[Finding] = []
    for number, each in enumerate(findings, start=1):
        left -= len(_entry(number, each).encode("utf-8", "replace")) + 1
        if left < 0:
            break
        kept.append(each)
    return tuple(kept)


def find_quotes(content: str, shown: Sequence[Finding], find: Find) -> tuple[Quote, ...]:
    """The quotations in an answer about the findings ``shown`` that ``find`` finds in the code."""
    quotes: dict[Quote, None] = {}
    for number, drop in _read_drops(content):
        if number > len(shown):
            continue
        about = shown[number - 1]
        for code in drop.code:
            hits = (find(text, about.path, about.line) for text in code.readings)
            quotes |= dict.fromkeys(next((found[:1] for found in hits if found), ()))
    return tuple(quotes)


def explain_unread(result: StepResult) -> str | None:
    """Why nothing counts of what a verifying step answered; None if it does."""
    if result.truncated:
        return f"its answer was cut ({result.finish_reason})"
    if result.cut_prompt:
        return f"the server did not read its whole prompt: {result.cut_prompt}"
    if result.over_limit:
        return f"its answer is longer than was asked for: the server {result.over_limit}"
    lines = read_lines(result.content, result.quotes)
    if not lines:
        return "its answer is empty"
    ended = _is_own(lines[-1]) and _END.fullmatch(lines[-1].text)
    return None if ended else "its answer does not end with `Checked: all`"


def checks(result: StepResult, *, high: bool) -> Mapping[int, Check]:
    """What a verifying step has proved, by the numbers of the findings that it was shown.

    ``high`` says whether it may drop a high one, instead of disputing it.
    """
    if explain_unread(result) is not None:
        return {}
    found: dict[int, Check] = {}
    for number, drop in _read_drops(result.content, result.quotes):
        about = result.shown[number - 1] if number <= len(result.shown) else None
        check = _prove(result, drop, about, high=high) if about is not None else None
        # Of several the first by its words, so that the order of an answer does not matter.
        if check is not None and (number not in found or _words(check) < _words(found[number])):
            found[number] = check
    return found


def _prove(result: StepResult, drop: _Drop, about: Finding, *, high: bool) -> Check | None:
    """The check if the code that the drop quotes proves it, or else None."""
    found = _find_proofs(drop, about, result.quotes)
    proofs = [each for each in found if any(_telling_lines(each, about))]
    counted = {line for each in proofs for line in _telling_lines(each, about)}
    if sum(map(len, map(_letters, counted))) < LEAST:
        return None
    longest = max(proofs, key=lambda each: (len(_letters(each.text)), each.text, each.path))
    reason = drop.reason or "no reason is given"
    return Check(result.id, reason, longest, dropped=high or about.severity != "high")


def _words(check: Check) -> tuple[str, str, str]:
    return check.reason, check.quote.text, check.quote.path


def list_unproven(result: StepResult) -> Sequence[int]:
    """The findings that a verifying step would drop, and that stay open because no code proves it."""
    said = {number for number, _ in _read_drops(result.content, result.quotes) if number <= len(result.shown)}
    return sorted(said - checks(result, high=True).keys())


def settle(
    reviews: Iterable[tuple[StepResult, Review]], results: Sequence[StepResult], high: frozenset[str]
) -> Iterator[tuple[StepResult, Review]]:
    """The reviews, each with what later ones of the ``results`` proved against its findings.

    ``high`` are the ids of the steps that may drop high findings. A check belongs to the finding that its
    step was shown, word for word: one of a later pass, or of another part, is not dropped with it. An
    explained ``revise`` without an open high or medium finding is a pass.
    """
    for of, own in reviews:
        proved: dict[_Key, Check] = {}
        for result in results[results.index(of) + 1 :]:
            of_another_part = result.parts == of.parts and result.part != of.part
            if result.shown and not of_another_part:
                for key, check in _checks_by_finding(result, high=result.id in high).items():
                    if key not in proved or check.dropped:
                        proved[key] = check
        findings = (
            each._replace(check=proved.get(_key(each._replace(by=(of.id,))))) for each in own.findings
        )
        yield of, conclude(own, findings)


_Key = tuple[object, ...]


def _key(finding: Finding) -> _Key:
    """What a finding says, where, and who says it."""
    where = finding.path, finding.line, finding.end_line
    return finding.by, SEVERITIES.index(finding.severity), *where, finding.message


def _checks_by_finding(result: StepResult, *, high: bool) -> Mapping[_Key, Check]:
    """What a step proved, by finding. Of two numbers for the same words, both must be dropped."""
    proved = checks(result, high=high)
    stands = {_key(each) for number, each in enumerate(result.shown, start=1) if number not in proved}
    found = {_key(result.shown[number - 1]): check for number, check in proved.items()}
    return {key: check for key, check in found.items() if key not in stands}


def _read_drops(content: str, quotes: Sequence[Quote] = ()) -> Iterator[tuple[int, _Drop]]:
    """The findings that an answer drops, by number, without those that another line of it lets stand."""
    lines = read_lines(content, quotes)
    decisions = [(at, said) for at, line in enumerate(lines) if (said := _DECISION.fullmatch(line.text))]
    drops: list[tuple[int, _Drop]] = []
    stands: set[int] = set()
    for (at, said), (end, _) in pairwise([*decisions, (len(lines), None)]):
        assert said is not None
        if _STANDS.search(said[0]):
            stands.add(int(said["number"]))
        elif _is_own(lines[at]):
            code = (each for each in code_below(lines[:end], at) if not each.suggestion)
            drops.append((int(said["number"]), _Drop((said["reason"] or "").strip(), tuple(code))))
    for line in lines:
        if _STANDS.search(line.text) and not _DECISION.fullmatch(line.text):
            if _ALL.search(line.text):
                return
            stands.update(map(int, re.findall(r"\d{1,6}", line.text)))
    yield from ((number, drop) for number, drop in drops if number >= 1 and number not in stands)


def _is_own(line: Line) -> bool:
    """Whether the answer itself says this: a table, and what a page may hide, does not count."""
    return line.plain and line.kind != "row"


def _find_proofs(drop: _Drop, about: Finding, quotes: Sequence[Quote]) -> Iterator[Quote]:
    """The quotations below a drop that stand in the code; of several places one in the finding's file."""
    for code in drop.code:
        found = [each for text in code.readings for each in quotes if each.text == text]
        yield from sorted(found, key=lambda each: each.path != about.path)[:1]


def _telling_lines(quote: Quote, about: Finding) -> Iterator[str]:
    """The lines of code in a quotation that the finding does not say itself.

    What somebody wrote about code proves nothing: a line that is a comment, and a text in another file than
    the finding is about.
    """
    if quote.path != about.path and quote.path.lower().endswith(_PROSE):
        return
    said = _letters(" ".join((about.path or "", about.message, about.evidence or "")))
    for line in quote.text.split("\n"):
        if _letters(line) not in said and not _COMMENT.match(line):
            yield " ".join(line.split())


def _letters(text: str) -> str:
    """The letters and digits of a text, without case."""
    return "".join(filter(str.isalnum, text)).casefold()
