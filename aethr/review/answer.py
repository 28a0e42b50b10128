"""Reads one reviewer's answer: its findings, and the last status that it states (pure).

The reader is tolerant of form and strict about meaning: a pass is what a person who reads the rendered
answer would call one. Anything less is not a verdict, and Aethr asks the reviewer once more.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Literal

from aethr.base.records import Finding, Quote, Review, ReviewStatus
from aethr.base.sanitize import one_line
from aethr.review import findings, rendered, thinking
from aethr.review.findings import Unread, is_none
from aethr.review.lines import Code, Line
from aethr.review.places import Ground
from aethr.review.replacements import check

Find = Callable[[str, str | None, int | None], Sequence[Quote]]
"""``Plan.find_quotes`` for the blocks of one prompt."""
NO_GROUND = Ground()
_PLACES = 3
"""So many places of a quotation are kept for one finding: of several, none may be the right one."""
_MOST_CODES = 10
_MOST_QUOTES = 200
_LONGEST_QUOTE = 4_000
LONGEST = 2_000_000
"""In characters. Nobody reads a longer answer, so it counts as an answer without a verdict."""

_SILENT = "it has no findings and no status line"
_IN_CODE = "its status line is in a block of code"
_UNCLEAR = "its last word on the status is not plainly pass or revise"
_ONE_FENCE = re.compile(
    r"\s*(?P<fence>`{3,}|~{3,})[ \t]*(?:markdown|md|text|txt|plaintext)?[ \t]*\r?\n"
    r"(?P<inner>.*)\n[ \t]{0,3}(?P=fence)\s*",
    re.DOTALL | re.IGNORECASE,
)
"""An answer that is one code block."""
_EXAMPLE = re.compile("path/to/file.py:42|what is wrong, when it happens")


def parse(text: str, ground: Ground) -> Review:
    """Read one answer; the places of findings are checked against ``ground`` if it has a change.

    The status is ``none`` for an answer without a readable status and without findings, a pass with a
    condition or beside a severity that cannot be read, and findings that all point to missing files. A pass
    beside a high or medium finding is ``revise``, and so are findings without a status.
    """
    lines = read_lines(text, frozenset(quote.text for quote in ground.quotes))
    read = list(
        dict.fromkeys(
            check(each, code, ground) if isinstance(each, Finding) else each
            for each, code in findings.read_findings(lines, ground)
        )
    )
    found = tuple(each for each in read if isinstance(each, Finding))
    unread = next((each for each in read if isinstance(each, Unread)), None)
    gating = [each for each in found if each.severity != "low"]
    status, stated = _read_status(lines)
    reason = None if status != "none" else _UNCLEAR if stated else _SILENT
    if status == "pass" and gating:
        status = "revise"
    elif status == "pass" and unread is not None:
        finding = one_line(" ".join(unread.text.split()), 80)
        status, reason = "none", f"the severity of a finding cannot be read: {finding}"
    elif status == "none" and not stated and not gating and _swallows_status(lines):
        reason = _IN_CODE
    elif status == "none" and found and (gating or not stated):
        status, reason = "revise", None
    elif status == "revise" and not found and _EXAMPLE.search(text):
        status, reason = "none", "it repeats the example of the instruction"
    if status == "revise" and gating and all(each.place == "nowhere" for each in gating):
        status, reason = "none", "its findings name files that are not there"
    unexplained = status == "revise" and (not gating or unread is not None)
    return Review(status, found, reason=reason, unexplained=unexplained)


def _swallows_status(lines: Sequence[Line]) -> bool:
    """Whether a status line is in a block of code, perhaps one that should have ended before it."""
    return any(
        _ABOUT.search(_normalize(text)) for line in lines for each in line.code for text in each.readings
    )


def find_quotes(text: str, ground: Ground, find: Find) -> tuple[Quote, ...]:
    """The code that an answer quotes, where ``find`` finds it in its prompt.

    For a finding, these are the likeliest places, first in the file that it names.
    """
    found: dict[Quote, None] = {}
    quoted = (code for line in read_lines(text) for code in line.code)
    for code in islice(quoted, _MOST_QUOTES):
        found.update(dict.fromkeys(_look_up(code, None, None, find)[:1]))
    lines = read_lines(text, frozenset(quote.text for quote in found))
    for each, codes in findings.read_findings(lines, ground):
        if isinstance(each, Finding) and len(found) < _MOST_QUOTES:
            for code in codes[:_MOST_CODES]:
                found.update(dict.fromkeys(_look_up(code, each.path, each.line, find)[:_PLACES]))
    return tuple(found)[:_MOST_QUOTES]


def _look_up(code: Code, path: str | None, line: int | None, find: Find) -> Sequence[Quote]:
    """The places of the first reading that is found."""
    if code.suggestion:
        return ()
    return next(
        (
            places
            for text in code.readings
            if len(text) <= _LONGEST_QUOTE and (places := find(text, path, line))
        ),
        (),
    )


def close_blocks(text: str) -> str:
    """An answer with its last open block closed, so that text appended to it is not part of that block."""
    probe = "Review status: revise"
    longest = max((match[0] for match in re.finditer(r"`{3,}|~{3,}", text)), key=len, default="")
    fences = ("```", "~~~", "`" * len(longest), "~" * len(longest))
    for end in ("", "-->", "</pre>", "</script>", "</style>", "</textarea>", "?>", "]]>", ">", *fences):
        ended = f"{text}\n{end}" if end else text
        lines = rendered.read_lines(f"{ended}\n\n{probe}")
        if lines and lines[-1].text == probe:
            return ended
    return text


@functools.lru_cache(maxsize=8)  # the loop, the gate and the reports read the same answer
def read_lines(text: str, quoted: frozenset[str] = frozenset()) -> tuple[Line, ...]:
    """The lines of an answer as a person sees them, each with the code below it, without the thinking.

    Indented code that is one of the texts ``quoted`` is not read as words. An answer that is one code block
    counts as what is in it.
    """
    if len(text) > LONGEST:
        return ()
    answer = thinking.split(text).answer.rstrip()
    start = max(0, len(answer) - _LONGEST_END)
    answer = answer[:start] + _END_MARKS.sub("", answer[start:])
    match = _ONE_FENCE.fullmatch(answer)
    if match and not any(line.strip().startswith(match["fence"]) for line in match["inner"].split("\n")):
        answer = match["inner"]
    return rendered.read_lines(answer, quoted)


# --- the status --------------------------------------------------------------------------------

_END_MARKS = re.compile(
    r"(?:\s*(?:<[|｜][^<>\s]{1,40}[|｜]>|</s>|<eos>|<end_of_turn>|<end_of_utterance>|"
    r"\[/?INST\]|\[EOS\]|\[DONE\]))+\s*\Z"
)
"""Tokens for the end of a text that some servers leave in it."""
_LONGEST_END = 300
"""In characters: such tokens are looked for in the end of an answer."""

_ABOUT = re.compile(r"\breview[\s_-]*(?:status|verdict|decision|result|outcome)\b")
_LEADS = (
    r"(?:(?:and|so|thus|therefore|hence|final|overall|my|the|updated|new|corrected|revised|actual|"
    r"current|code|pr|pull request|review|reviewer(?:'s)?|conclusion|edit|correction|verdict|summary|"
    r"result)[\s:,'-]+)*"
)
_LABEL = re.compile(
    _LEADS + r"(?:status|verdict|decision|outcome|conclusion|recommendation|result|final|overall|review)"
    r"\s*(?P<sign>[:=]|-+>?|–|—|→|\bis\b(?: now)?|\bchanged to\b)\s*"
)
_CLEAN_LABEL = re.compile(
    r"(?:(?:so|thus|therefore|hence|final|overall|my|the|updated|conclusion|verdict|summary|result)[\s:,-]+)*"
    r"review[\s_-]*status\s*(?:[:=]|-+>?|–|—|→)\s*"
)
_VERDICT_LABEL = re.compile(r"\b(?:status|verdict|decision)\b")
_NOT = r"(?:do|does|must|should|can|may|will|would)(?: not|n't|not)[\s_-]*"
_REVISE = re.compile(
    r"(?:is |now |still |must be |should be |needs? to be |needs? (?:a )?|requires? (?:a )?|please )*(?:"
    r"revis\w*|fail\w*|reject\w*|block\w*|disapprov\w*|denied|declined|nack|unsafe"
    r"|changes?[\s_-]*(?:are |is )?(?:requested|required|needed|necessary)|request(?:ed|s|ing)?[\s_-]*changes"
    r"|needs?[\s_-]*(?:changes|work|fix\w*|revision)|no[\s_-]*(?:go|pass)"
    rf"|{_NOT}(?:be )?(?:merged?|ship(?:ped)?|pass|approved?|land(?:ed)?)"
    r"|not[\s_-]*(?:approved|ready|mergeable|acceptable|passed|passing|ok(?:ay)?)"
    r")\b"
)
_PASS = re.compile(r"pass(?:ed|es)?")
_AGREES = re.compile(r"pass(?:ed|es)?|approved?|lgtm|ok(?:ay)?|accept(?:ed)?|good|clean|merge")
_NOT_CLEAN = frozenset("❌✖✗✘⛔🚫🔴🟠🟡🟥🟧🟨⚠❗‼❓❔⁉👎🛑🚨🙅☠💀💣🔧🚧⏳🤔🤷")
"""Signs that contradict a pass beside them."""

_TO_FIX = r"(?:fix|chang|revis|address|resolv|correct|rework|remov|rewrit)"
_DOUBT = re.compile(
    "|".join(
        (
            r"^(?:wait|actually|however|but|although|though|hold on|correction|scratch|strike|oops|sorry)\b",
            r"^(?:edit|update|hmm+|except|unless|that said|still|nevertheless|yet|one more thing|only if)\b",
            r"^(?:on (?:second thought|reflection)|assuming|if|once|until|after|before|pending|subject to)\b",
            r"^(?:conditional|with (?:the )?(?:condition|caveat|reservation)|as (?:long|soon) as|when)\b",
            r"^no[,.:!—–-]",
            r"\b(?:i|we) (?:take|took|disagree|missed|overlooked|was (?:wrong|unable)|am not)\b",
            r"\b(?:i|we) (?:have not|haven't|did not|didn't|cannot|can't|could not|couldn't|do not agree)\b",
            r"\b(?:don't agree|change my|changed my mind|take (?:that|it|this) back|retract|withdraw)",
            r"\b(?:disregard|ignore) (?:the|that|this|what|my)\b",
            r"\bnot (?:a |to be )?(?:pass|merge|approve|ready|acceptable|safe|reviewed|looked|relied)",
            r"\b(?:no|isn't a|is not a|never a) pass\b",
            rf"\b{_NOT}(?:be )?(?:merge|ship|approve|land|pass|go|sign)",
            rf"\bmust (?:first |still )?be {_TO_FIX}",
            rf"\b(?:needs?|has|have) (?:first |still )?to be {_TO_FIX}",
            r"\b(?:changes?|fix(?:es)?|revisions?) (?:are |is )?(?:required|requested|needed|necessary)",
            r"\brequest(?:ing)? changes",
            r"\b(?:needs?|requires?) (?:a )?(?:fix|change|revision|rework|work|another)",
            r"\b(?:provided|only if|unless|on condition|conditional|as long as|assuming|contingent)\b",
            r"\b(?:reject|revise|block(?:ed|er|ing)?|quot(?:e|ed|ing)|example|prompt injection)\b",
        )
    )
)
"""What a careful reader takes as a doubt about the pass above."""

_HYPOTHETICAL = re.compile(
    r"\b(?:not|never|cannot|can't|couldn't|could|would|should|might|if|unless|until|before|once|when|except|whether"
    r"|instead|asks?|asked|wants?|says?|said|writes?|wrote|reads|claims?|form|format|example|template|like"
    r"|such as|expected|ends? with|contains?|author|file|line|comment|string|text|print\w*|output\w*|quot\w*"
    r"|no longer|rather than|or)\b"
)
"""In a sentence before a pass: the pass may be quoted from somebody else, or hypothetical."""

_INTRODUCTION = re.compile(
    r"\b(?:verdict|status|conclusion|decision|result|summary|assessment|findings?|issues?|outcome|none|overall"
    r"|recommendation|notes?|remarks?|review|answer|final)\b"
)


_Word = Literal["pass", "revise", "unclear", "other"]


def _read_status(lines: Sequence[Line]) -> tuple[ReviewStatus, bool]:
    """The last status that the lines state, and whether any line states one, even unclearly.

    A pass that other lines cast doubt on does not count, and neither does one that follows ``revise`` as in
    the instruction: that is not an answer.
    """
    words = [(at, word) for at in range(len(lines)) if (word := _classify(lines, at)) != "other"]
    if not words:
        return "none", False
    last, status = words[-1]
    if status != "pass":
        return ("revise" if status == "revise" else "none"), True
    following = [_strip_decoration(_normalize(line.text)) for line in lines[last + 1 :]]
    sentences = [sentence for text in following for sentence in re.split(r"(?<=[.!?;])\s+", text)]
    offers_choice = words[-2:-1] == [(last - 1, "revise")] and (
        lines[last - 1].block == lines[last].block or lines[last - 1].kind == lines[last].kind == "item"
    )
    return ("none" if offers_choice or any(map(_DOUBT.search, sentences)) else "pass"), True


def _normalize(text: str) -> str:
    """A line in lower case, with plain quotes and single spaces, without emphasis and marks."""
    plain = unicodedata.normalize("NFKC", text)
    plain = "".join(
        char for char in plain if unicodedata.category(char) not in ("Cf", "Mn", "Me") or char == "\u0338"
    )
    plain = re.sub(r"[*_`#\s\x00-\x1f\x7f-\x9f]+", " ", plain).casefold()
    return plain.translate(
        {ord("’"): "'", ord("‘"): "'", ord("“"): '"', ord("”"): '"', ord("："): ":"}
    ).strip()


def _classify(lines: Sequence[Line], at: int) -> _Word:
    line = lines[at]
    text = _strip_decoration(_normalize(line.text))
    label = _CLEAN_LABEL.match(text)
    if label is not None:
        value = text[label.end() :]
        if _REVISE.match(_strip_decoration(value)):
            return "revise"
        clean = _is_clean_pass(value) and not _NOT_CLEAN.intersection(line.text)
        return "pass" if clean and _is_own(lines, at) else "unclear"
    found = _ABOUT.search(text)
    if found is not None:
        value = _strip_decoration(
            re.sub(
                r"^\s*(?:[:=]|-+>?|–|—|→|is\b(?: now)?|changes? to|changed to)\s*", "", text[found.end() :]
            )
        )
        return "revise" if _REVISE.match(value) else "unclear"
    label = _LABEL.match(text)
    if label is not None:
        value = _strip_decoration(text[label.end() :])
        if _REVISE.match(value):
            return "revise"
        if _AGREES.fullmatch(value):
            return "other"  # agrees, in words that were not asked for
        return "unclear" if label["sign"] in (":", "=") and _VERDICT_LABEL.search(label[0]) else "other"
    return "revise" if line.plain and _REVISE.fullmatch(text) else "other"


def _is_clean_pass(value: str) -> bool:
    """Whether this is ``pass``, at most with a remark that there is nothing to report."""
    plain = _strip_decoration(value)
    match = _PASS.match(plain)
    if match is None:
        return False
    rest = plain[match.end() :]
    remark = re.fullmatch(r"\s*(?:[(\[]|[:,;—–]|-\s)\s*(?P<said>.*?)[)\]]?", rest)
    return not rest or (remark is not None and bool(remark["said"]) and is_none(remark["said"]))


def _strip_decoration(text: str) -> str:
    """The text without surrounding signs, emoji, quotes and brackets, and without a full stop."""
    while True:
        plain = text.strip().rstrip(".!。 ")
        while plain and (
            unicodedata.category(plain[0]) in ("So", "Sk", "Sm", "Cn") and plain[0] not in "~<>|+="
        ):
            plain = plain[1:].lstrip()
        while plain and unicodedata.category(plain[-1]) in ("So", "Sk", "Cn") and plain[-1] != "~":
            plain = plain[:-1].rstrip()
        plain = re.sub(r"^(?:[-•‣>]|\d{1,2}[.)]|\[[ x]\])\s+", "", plain)
        if len(plain) > 1 and plain[0] + plain[-1] in ('""', "''", "()", "[]", "«»"):
            plain = plain[1:-1]
        if plain == text:
            return plain
        text = plain


def _is_own(lines: Sequence[Line], at: int) -> bool:
    """Whether the line is the reviewer's own verdict, by its form and by the lines around it."""
    line = lines[at]
    if not line.plain or line.kind == "row":
        return False
    before = lines[at - 1] if at else None
    after = lines[at + 1] if at + 1 < len(lines) else None
    in_code = all(span.code for span in line.spans if span.text.strip())
    if in_code and (after is not None or (before is not None and before.block == line.block)):
        return False
    if after is not None and after.block == line.block:
        text = _strip_decoration(_normalize(after.text))
        about_it = _ABOUT.search(text) or _LABEL.match(text)
        if text and not about_it and re.match(r"[\[({-]", text) is None:
            return False  # the next line continues the sentence
    if before is None or before.kind == "row":
        return True
    said = _normalize(before.text)
    if before.block == line.block and not said.endswith((".", "!", ")", ":")) and _HYPOTHETICAL.search(said):
        return False
    if said.endswith(":"):  # it introduces the code below it, or this line
        short = len(said.split()) <= 5 and _INTRODUCTION.search(said) is not None
        return (bool(before.code) or short) and _HYPOTHETICAL.search(said) is None
    return True
