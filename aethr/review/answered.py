"""Which findings the answers of a workflow file cover (pure).

Whoever answers a finding has decided about one defect at one place. So an answer never covers a finding that
is more severe, nor another defect on the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from aethr.base.records import SEVERITIES, Answer, Finding, Receipt, Review, is_change
from aethr.review import conclude
from aethr.review.identity import PATH_DIGITS, has_code, is_same_code, place_id
from aethr.review.panel import alike, share_ids

IsGone = Callable[[str], bool]
"""Whether the tree under review has no file any more with the path of this id."""


def settle(reviews: Sequence[Review], answers: Sequence[Answer], is_gone: IsGone) -> list[Review]:
    """The reviews, with each finding that an answer covers marked as answered, with its reason.

    A finding is covered at the places of all findings of these reviews that are the same defect: the panel
    shows one id for all of them.
    """

    def mark(finding: Finding) -> Finding:
        reason = next((answer.reason for answer in answers if covers(answer, finding, is_gone)), None)
        return finding if reason is None else finding._replace(state="answered", answer=reason)

    shared = share_ids([own.findings for own in reviews])
    return [conclude(own, map(mark, found)) for own, found in zip(reviews, shared, strict=True)]


def covers(answer: Answer, finding: Finding, is_gone: IsGone) -> bool:
    """Whether the finding is the one that was answered: same place, same defect, not more severe.

    The place is the same if one of the ids is. It is the same after a rename too, once no file has the old
    path: else a copy of the code in another file would share the answer.
    """
    if SEVERITIES.index(finding.severity) < SEVERITIES.index(answer.severity):
        return False
    return any(
        alike(answer.message, finding.message, same_lines=has_code(own))
        and (own in finding.every_id or is_gone(own))
        for own in answer.every_id
        if own in finding.every_id or any(is_same_code(own, each) for each in finding.every_id)
    )


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
        finding = as_finding(one)
        for other, answer in enumerate(answers):
            is_double = (answer.id, answer.severity) == (one.id, one.severity) and other > at
            if other != at and not is_double and covers(answer, finding, lambda _: False):
                yield at, other
                break


def as_finding(answer: Answer) -> Finding:
    """What the answer is about, as far as it says."""
    return Finding(answer.severity, None, None, answer.message, id=answer.id, ids=answer.every_id)


def path_digits(path: str) -> str:
    """The digits of an id that stand for the path, from the repository's top."""
    return place_id(path)[:PATH_DIGITS]
