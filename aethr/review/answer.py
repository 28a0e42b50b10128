"""One reviewer's answer, read: its status and its findings (pure).

The reader is tolerant of form and strict about meaning: a pass is what a person who reads the rendered
answer would call one. Whatever is less is no verdict, which is asked for once more.
"""

from __future__ import annotations

import functools
import re

from aethr.base.records import Finding, Review
from aethr.review import findings, thinking
from aethr.review.findings import Unread
from aethr.review.lines import Line
from aethr.review.places import Ground
from aethr.review.rendered import read_lines
from aethr.review.status import read_status, without_end_marks

NO_GROUND = Ground()
LONGEST = 2_000_000
"""In characters. Nobody reads a longer answer, so it has no verdict."""

_SILENT = "it has no findings and no status line"
_UNCLEAR = "its last word on the status is not plainly pass or revise"
_ONE_FENCE = re.compile(
    r"\s*(?P<fence>`{3,}|~{3,})[ \t]*(?:markdown|md|text|txt|plaintext)?[ \t]*\r?\n"
    r"(?P<inner>.*)\n[ \t]{0,3}(?P=fence)\s*",
    re.DOTALL | re.IGNORECASE,
)


def parse(text: str, ground: Ground = NO_GROUND) -> Review:
    """Read one answer; places are held against ``ground`` where it has a change.

    ``none`` is no verdict: no status that can be read and no finding, a pass with a condition or beside a
    severity that cannot be understood, findings none of which points anywhere. A pass beside a high or
    medium finding is ``revise``, and so are findings without a status.
    """
    said = _lines(text)
    read = list(dict.fromkeys(findings.read_findings(said, ground)))
    found = tuple(each for each in read if isinstance(each, Finding))
    unread = next((each for each in read if isinstance(each, Unread)), None)
    gating = [each for each in found if each.severity != "low"]
    status, stated = read_status(said)
    reason = None if status != "none" else _UNCLEAR if stated else _SILENT
    if status == "pass" and gating:
        status = "revise"
    elif status == "pass" and unread is not None:
        status, reason = "none", f"the severity of a finding cannot be read: {_short(unread.text)}"
    elif status == "none" and found and (gating or not stated):
        status, reason = "revise", None
    elif status == "revise" and not found and _is_the_example(text):
        status, reason = "none", "it repeats the example of the instruction"
    if status == "revise" and gating and all(each.place == "nowhere" for each in gating):
        status, reason = "none", "its findings name files that are not there"
    unexplained = status == "revise" and (not gating or unread is not None)
    return Review(status, found, reason=reason, unexplained=unexplained)


def closed(text: str) -> str:
    """An answer with the block that it leaves open closed: what is put behind it is then no part of it."""
    probe = "Review status: revise"
    longest = max((match[0] for match in re.finditer(r"`{3,}|~{3,}", text)), key=len, default="")
    fences = ("```", "~~~", "`" * len(longest), "~" * len(longest))
    for end in ("", "-->", "</pre>", "</script>", "</style>", "</textarea>", "?>", "]]>", ">", *fences):
        ended = f"{text}\n{end}" if end else text
        if _ends_with(f"{ended}\n\n{probe}", probe):
            return ended
    return text


def _ends_with(text: str, probe: str) -> bool:
    read = read_lines(text)
    return bool(read) and read[-1].text == probe


@functools.lru_cache(maxsize=8)  # the loop, the gate and the reports read the same answer
def _lines(text: str) -> tuple[Line, ...]:
    if len(text) > LONGEST:
        return ()
    return read_lines(_unwrapped(without_end_marks(thinking.split(text).answer)))


def _unwrapped(text: str) -> str:
    """The content of an answer that is one code block as a whole."""
    match = _ONE_FENCE.fullmatch(text)
    if match is None or any(line.strip().startswith(match["fence"]) for line in match["inner"].split("\n")):
        return text
    return match["inner"]


def _is_the_example(text: str) -> bool:
    return "path/to/file.py:42" in text or "what is wrong and what would be right" in text


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 80 else plain[:79] + "…"
