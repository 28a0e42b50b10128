"""Which findings are one defect, and the findings of several answers as one list (pure).

Reviewers word the same defect differently, and write of different defects in the same code with the same
names. So messages are compared by their words, and only where the places of the findings meet. What is not
sure stays apart: a defect listed twice costs a glance, one that hides behind another is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from aethr.base.records import SEVERITIES, Finding, Opinion, Whereabouts

ENOUGH = 0.25
"""From this likeness on, two messages about overlapping lines are about one defect."""
NEARLY = 0.6
"""The same without lines to compare: that of two messages of 15 words, of which they share 12 or 13."""
NEIGHBOURS = 100
"""A finding is compared with at most this many after it in its file, so that thousands take seconds."""

_STOPWORDS = frozenset((
    "the", "and", "for", "with", "that", "this", "are", "not", "but", "was", "has", "its", "can", "may",
    "might", "could", "should", "would", "must", "will", "does", "into", "from", "when", "which", "than",
    "then", "there", "they", "also", "only", "instead", "because", "non",
))  # fmt: skip
_SYNONYMS = """\
missing lacks omits absent without
redundant unnecessary unused useless dead
wrong incorrect invalid improper
null none nil undefined
crash throw raise exception panic
race concurrent thread atomic synchronization
permission authorization access
inverted flipped reversed swapped opposite
mismatch inconsistent differ different
overwrite clobber replace
leak orphaned dangling
flaky unreliable nondeterministic
typo misspelled spelling
argument parameter""".splitlines()
"""Words that reviewers use for each other, a line for each meaning."""
_OPPOSITES = ("missing", "redundant")
"""Two meanings that make two defects of one thing."""

_WORDS = 40
"""How many words of a message count. It begins with the defect."""
_BY_CHANCE = 150
"""Messages of ``a`` and ``b`` words about the same code share about ``a * b / 150`` words by chance."""
_SHORT = 3
"""Added to the length of each message, so that it takes more than a word or two to be alike."""
_OTHER = 2
"""Messages with the same words in the same order, but for at most this many on each side, are one sentence
about two things."""

_NAME = re.compile(r"[^\W\d][\w$]*")
_IS_CODE = re.compile(r"[a-z][A-Z]|[_$\d]|[A-Z]{3}")
_PART = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ENDING = re.compile(r"(?<=...)(?:ations?|ating|ated|ates|ings?|edly|ied|ies|ed|es|s|ly|e)$")
_DOUBLE = re.compile(r"(?<=.)(.)\1$")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]+")
"""Japanese and Chinese have no spaces between words, so that two letters each are taken for one."""
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")
_LINES = re.compile(r"\blines?\s*~?\d+(?:\s*(?:-|–|,|to|and)\s*\d+)*", re.IGNORECASE)
"""A place within a message, not what it is about."""
_WHEREABOUTS: tuple[Whereabouts, ...] = ("change", "tree", "nowhere")


class _Message(NamedTuple):
    """What is compared of a message.

    ``roots`` are those of its words and of the words in its names, and the names as a whole. In ``terms`` a
    name is only a whole. ``terms`` and ``numbers`` are in the order in which they are first mentioned.
    """

    text: str
    roots: frozenset[str]
    terms: tuple[str, ...]
    numbers: tuple[str, ...]


def alike(one: str, other: str, *, same_lines: bool = True) -> bool:
    """Whether two messages about the same lines are about one defect. Symmetric.

    Without ``same_lines`` they are about one file, and the words have to be nearly the same.
    """
    return _likeness(_read(one), _read(other)) >= (ENOUGH if same_lines else NEARLY)


def merge(answers: Iterable[Sequence[Finding]], steps: Sequence[str] = ()) -> tuple[Finding, ...]:
    """The findings of these answers, each defect once, the most severe first.

    ``answers`` are the findings of each answer, of a step or of a part. Those of different answers are one
    defect if their lines overlap and their messages are alike; neighbouring lines stay apart. Where one has
    no line, the words have to be nearly the same. Findings of one answer are merged only if place and words
    are equal. In a group each finding meets each other one: if ``b`` meets ``a`` and ``c``, which do not
    meet, it joins the one that it is more like.

    The result is the most severe finding of its group; what the others wrote is in ``also``, and everyone who
    found it in ``by``, in the order of ``steps``. Evidence and suggestion are of the most severe finding that
    has them, and the lines and the id are those that the suggestion replaces. All ids of the group are in
    ``ids``, because another reviewer may be the most severe one next time. The order of the answers does not
    matter, nor does that of the findings in them.

    What a verifying step has dropped, or an answer covers, counts for nothing but its words while another
    finding of the group is open: the result is then open, has the severity of an open one, and is disputed if
    one was dropped. So merging neither opens nor closes a gate. It is closed only if each of the group is.
    """
    rank = {step: number for number, step in enumerate(steps)}
    merged = (_combine(group, rank) for group in _find_groups(answers))
    return tuple(sorted(merged, key=lambda found: (SEVERITIES.index(found.severity), _identify(found))))


def share_ids(answers: Sequence[Sequence[Finding]]) -> list[list[Finding]]:
    """The findings of these answers, unmerged, each with the ids of all that ``merge`` makes one with it."""
    ids = {each: _join_ids(group) for group in _find_groups(answers) for each in group}
    return [[each._replace(ids=ids[each]) for each in answer] for answer in answers]


def _find_groups(answers: Iterable[Sequence[Finding]]) -> Iterator[list[Finding]]:
    """The findings of each defect, in the order of their places."""
    stated: dict[tuple[str, int, int, str], list[tuple[int, Finding]]] = {}
    for number, answer in enumerate(answers):
        for finding in answer:
            stated.setdefault(_identify(finding), []).append((number, finding))
    same = [stated[key] for key in sorted(stated)]
    meeting = _find_meeting(same)
    groups = [[at] for at in range(len(same))]
    for at, other in sorted(meeting, key=lambda pair: (meeting[pair], pair)):
        one, two = groups[at], groups[other]
        if one is not two and all((min(pair), max(pair)) in meeting for pair in product(one, two)):
            one += two
            for each in two:
                groups[each] = one
    for at, group in enumerate(groups):
        if group[0] == at:
            yield [finding for each in group for _, finding in same[each]]


def _join_ids(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The ids of these findings, whichever of them is shown; empty if they are one."""
    every = sorted({own for each in findings for own in each.every_id})
    return tuple(every) if len(every) > 1 else ()


def _identify(finding: Finding) -> tuple[str, int, int, str]:
    """What is equal in findings that say the same of the same place; it sorts by place."""
    first, last = _lines_of(finding)
    return finding.path or "", first, last, " ".join(finding.message.split())


def _lines_of(finding: Finding) -> tuple[int, int]:
    """The first and the last line; 0 if it names none."""
    return finding.line or 0, finding.end_line or finding.line or 0


def _find_meeting(
    same: Sequence[Sequence[tuple[int, Finding]]],
) -> Mapping[tuple[int, int], tuple[float, bool]]:
    """Each two that are one defect, unless one answer has both; the least value means the closest.

    ``same`` is sorted by place, and so are the indices of a pair.
    """
    findings = [each[0][1] for each in same]
    answers = [{number for number, _ in each} for each in same]
    messages = [_read(finding.message) for finding in findings]
    meeting = {}
    for at, one in enumerate(findings):
        first, last = _lines_of(one)
        for other in range(at + 1, min(at + 1 + NEIGHBOURS, len(findings))):
            begin, end = _lines_of(findings[other])
            if findings[other].path != one.path or (first and begin > last):
                break
            likeness = _likeness(messages[at], messages[other])
            if likeness >= (ENOUGH if first else NEARLY) and answers[at].isdisjoint(answers[other]):
                meeting[at, other] = -likeness, (first, last) != (begin, end)
    return meeting


def _combine(findings: Iterable[Finding], rank: Mapping[str, int]) -> Finding:
    """One finding of several that are one defect."""
    ranked = sorted(
        findings,
        key=lambda each: (
            not each.is_open,
            SEVERITIES.index(each.severity),
            each.suggestion is None,
            each.evidence is None,
            -len(each.message),
            repr(each),
        ),
    )
    first = ranked[0]
    kept = [each for each in ranked if each.is_open] or ranked
    spot = min(kept, key=lambda each: (each.suggestion is None, each.line is None))
    check = next((each.check for each in ranked if each.check is not None), None)
    own = Opinion(first.by, first.severity, first.message)
    others = {Opinion(each.by, each.severity, each.message) for each in ranked}
    others.update(opinion for each in ranked for opinion in each.also)

    def in_order(by: Iterable[str]) -> list[tuple[int, str]]:
        return sorted((rank.get(step, len(rank)), step) for step in by)

    return first._replace(
        line=spot.line,
        end_line=spot.end_line,
        place=next((place for place in _WHEREABOUTS if any(each.place == place for each in kept)), None),
        by=tuple(step for _, step in in_order({step for each in ranked for step in each.by})),
        id=spot.id,
        ids=_join_ids(ranked),
        evidence=next((each.evidence for each in (spot, *kept) if each.evidence is not None), None),
        suggestion=spot.suggestion,
        check=check and check._replace(dropped=first.is_dropped),
        also=tuple(
            sorted(
                others - {own},
                key=lambda each: (SEVERITIES.index(each.severity), in_order(each.by), each.message),
            )
        ),
    )


# --- messages ----------------------------------------------------------------------------------


def _read(text: str) -> _Message:
    begin = _UNSPACED.sub(r" \g<0> ", _LINES.sub(" ", text))
    roots: list[str] = []
    terms: list[str] = []
    for name in _NAME.findall(begin):
        is_code = _IS_CODE.search(name) is not None
        parts = _PART.findall(_CAMEL.sub(" ", name)) if is_code else [name]
        words = [_MEANINGS.get(root, root) for part in parts for root in _roots_of(part.lower())]
        whole = [f"#{name.lower()}"] if is_code else []
        roots += words + whole
        terms += whole or words
    return _Message(
        text=" ".join(text.split()),
        roots=frozenset(list(dict.fromkeys(roots))[:_WORDS]),
        terms=tuple(dict.fromkeys(terms)),
        numbers=tuple(dict.fromkeys(_NUMBER.findall(begin))),
    )


def _roots_of(word: str) -> Sequence[str]:
    """The root of a word, if it says anything."""
    if _UNSPACED.match(word):
        return [word[at : at + 2] for at in range(len(word) - 1)]
    return [_root(word)] if len(word) > 2 and word not in _STOPWORDS else []


def stem(word: str) -> str:
    """A word without its ending: ``valid`` of validate, validates and validation."""
    return _DOUBLE.sub(r"\1", _ENDING.sub("", word))


def _root(word: str) -> str:
    """What the stem of a word begins with: ``concur`` of concurrent and concurrency."""
    return stem(word)[:6]


_MEANINGS = {_root(word): _root(row.split()[0]) for row in _SYNONYMS for word in row.split()}
"""The root of a word, and that of the first of its synonyms."""


def _likeness(one: _Message, other: _Message) -> float:
    """The roots that two messages share, less those shared by chance, of the average of each; at most 1.

    It is 0 unless they are alike. The same on every machine: all numbers are whole until the last division.
    """
    if one.text == other.text:
        return 1.0
    a, b, both = len(one.roots), len(other.roots), len(one.roots & other.roots)
    likeness = 2 * (_BY_CHANCE * both - a * b) / (_BY_CHANCE * (a + b + 2 * _SHORT))
    if a == b == both > 0:
        likeness = 1.0
    return likeness if likeness >= ENOUGH and not _contradict(one, other) else 0.0


class _Compared(NamedTuple):
    """How many items each of two sequences has alone, and whether the others have one order."""

    ours: int
    theirs: int
    in_order: bool


def _compare(one: Sequence[str], other: Sequence[str]) -> _Compared:
    """``one`` and ``other`` have no item twice."""
    both = set(one).intersection(other)
    in_order = [each for each in one if each in both] == [each for each in other if each in both]
    return _Compared(len(one) - len(both), len(other) - len(both), in_order)


def _contradict(one: _Message, other: _Message) -> bool:
    """Whether two messages are about different things or values, however many words they share.

    Each has a number that the other lacks, or their numbers come in another order (from 30 to 70, from 70 to
    30); or they are one sentence but for a word or two; or one calls missing what the other calls redundant.
    """
    values = _compare(one.numbers, other.numbers)
    things = _compare(one.terms, other.terms)
    if (values.ours and values.theirs) or not values.in_order:
        return True
    if things.in_order and 0 < things.ours <= _OTHER and 0 < things.theirs <= _OTHER:
        return True
    missing, redundant = map(_root, _OPPOSITES)
    sides = {(missing in each.roots, redundant in each.roots) for each in (one, other)}
    return sides == {(True, False), (False, True)}
