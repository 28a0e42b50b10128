"""Which findings the answers of a workflow file cover (pure).

Whoever answers a finding has decided about one defect at one place. So an answer never covers a finding that
is more severe, nor another defect on the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from aethr.base.records import SEVERITIES, Answer, Finding, Receipt, Review, is_change
from aethr.review import conclude
from aethr.review.identity import PATH_DIGITS, has_code, is_same_code, place_id
from aethr.review.panel import alike

IsGone = Callable[[str], bool]
"""Whether the tree under review has no file any more with the path of this id."""


def settle(review: Review, answers: Sequence[Answer], is_gone: IsGone) -> Review:
    """The review, with each finding that an answer covers marked as answered, with its reason."""
    findings = []
    for each in review.findings:
        reason = next((answer.reason for answer in answers if covers(answer, each, is_gone)), None)
        findings.append(each if reason is None else each._replace(state="answered", answer=reason))
    return conclude(review, findings)


def covers(answer: Answer, finding: Finding, is_gone: IsGone) -> bool:
    """Whether the finding is the one that was answered: same place, same defect, not more severe.

    The place is the same after a rename, once no file has the old path: else a copy of the code in another
    file would share the answer.
    """
    if finding.id is None or SEVERITIES.index(finding.severity) < SEVERITIES.index(answer.severity):
        return False
    is_moved = finding.id != answer.id
    if is_moved and not is_same_code(answer.id, finding.id):
        return False
    is_same = alike(answer.message, finding.message, same_lines=has_code(answer.id))
    return is_same and not (is_moved and not is_gone(answer.id))


def find_unused(
    answers: Iterable[Answer], findings: Sequence[Finding], receipts: Iterable[Receipt], is_gone: IsGone
) -> Iterator[str]:
    """The ids of answers that cover none of these findings, although their file was reviewed as a whole."""
    reviewed: dict[str, bool] = {}
    for each in receipts:
        if each.path and is_change(each.source):
            digits = path_digits(each.old_path or each.path)
            reviewed[digits] = reviewed.get(digits, True) and each.complete and each.excluded is None
    for answer in answers:
        is_reviewed = reviewed.get(answer.id[:PATH_DIGITS], False)
        if is_reviewed and not any(covers(answer, each, is_gone) for each in findings):
            yield answer.id


def find_repeated(answers: Sequence[Answer]) -> Iterator[tuple[int, int]]:
    """Each answer that says no more than another one, and that one, by their positions."""
    for at, one in enumerate(answers):
        finding = Finding(one.severity, None, None, one.message, id=one.id)
        for other, answer in enumerate(answers):
            is_double = (answer.id, answer.severity) == (one.id, one.severity) and other > at
            if other != at and not is_double and covers(answer, finding, lambda _: False):
                yield at, other
                break


def path_digits(path: str) -> str:
    """The digits of an id that stand for the path, from the repository's top."""
    return place_id(path)[:PATH_DIGITS]
