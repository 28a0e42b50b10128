"""Answers to findings that people write as comments on a pull request: ``/aethr answer ID REASON``.

A comment names a place and gives a reason; which finding it is about, with severity and message, is only what
the sealed state of Aethr's own comment says. That is settled once, by the first run that reads the comment,
so that an answer never covers what was reported later at the same place and is more severe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aethr.base.outside import MOST, at, count, text
from aethr.base.records import Answer
from aethr.base.sanitize import one_line
from aethr.base.words import capped
from aethr.github import command
from aethr.github.upsert import ApiError
from aethr.run.kept import AnsweredIn, KeptState

MOST_ANSWERS = 200
"""So many comments with an answer are read, the latest ones."""
MOST_WRITERS = 50
"""For so many people GitHub is asked whether they may push."""
LONGEST_REASON = 500


class Written(NamedTuple):
    """An answer as somebody wrote it: the number of the comment, and what is in it. ``user`` is GitHub's."""

    comment: int
    place: str
    reason: str
    user: object
    was_edited: bool

    @property
    def login(self) -> str:
        return text(at(self.user, "login"))


class Judged(NamedTuple):
    """The answers that count, the state that knows their comments, and why the other comments do not count.

    ``refused`` has the reason by the number of the comment, ``places`` the id that each comment names.
    """

    answers: tuple[Answer, ...]
    state: KeptState
    refused: Mapping[int, str]
    places: Mapping[int, str]

    def find_refusal(self, comment: int) -> str | None:
        """Why this comment does not count; None for one that counts, or that a newer one replaces."""
        return self.refused.get(comment) if comment in self.places else NOT_LISTED

    @property
    def notes(self) -> Iterator[str]:
        """A line for each reason, with the ids that it is about."""
        for why in dict.fromkeys(self.refused.values()):
            ids = dict.fromkeys(self.places[number] for number, each in self.refused.items() if each == why)
            yield ignore(capped([*ids]), why)


def ignore(about: str, why: str) -> str:
    """A note on comments with an answer that do not count."""
    return f"`{command.WORD} {command.ANSWER}` is ignored for {about}: {why}."


class Collector:
    """Keeps the comments with an answer, from all that are listed."""

    def __init__(self) -> None:
        self.written: deque[Written] = deque(maxlen=MOST_ANSWERS)

    def see(self, comment: object) -> None:
        """Look at a comment as the API lists it."""
        asked, number = command.parse(text(at(comment, "body"))), count(at(comment, "id"))
        about = command.read_answer(asked) if asked is not None else None
        if about is None or not 0 < number < MOST:
            return
        created = text(at(comment, "created_at"))
        was_edited = not created or at(comment, "updated_at") != created
        reason = one_line(about.reason, LONGEST_REASON)
        self.written.append(Written(number, about.place, reason, at(comment, "user"), was_edited))


EDITED = "somebody edited it: write a new one"
UNKNOWN = "the latest review had no such finding when the comment was first read"
AMBIGUOUS = "several findings have this id: answer them in the workflow file"
BY_AUTHOR = (
    "the author of the pull request wrote it, and the base's workflow file has no `answers_by_author: true`"
)
NO_RIGHTS = "GitHub does not confirm that its writer may push"
NOT_ASKED = "GitHub does not say whether its writer may push"
NOT_LISTED = "GitHub does not list this comment: write it again"
UNSEALED = "without a comment of Aethr with a state that a provider's key seals, none counts"


def judge(
    written: Sequence[Written], state: KeptState, may_answer: Callable[[Written], str | None]
) -> Judged:
    """Decide which comments count, the newest about each place. ``may_answer`` says why not, or None."""
    known = {each.comment: each for each in state.answered}
    refused: dict[int, str] = {}
    in_order = sorted(written, key=lambda each: each.comment)
    for each in in_order:
        own = [one.finding for one in state.findings if each.place in one.finding.every_id]
        own = own or [one.finding for one in state.answered if each.place in one.finding.every_id][-1:]
        if each.comment in known or each.was_edited:
            continue
        if each.comment <= state.last_comment or not own:
            refused[each.comment] = UNKNOWN
        elif len(own) > 1:
            refused[each.comment] = AMBIGUOUS
        else:
            known[each.comment] = AnsweredIn(each.comment, own[0])
    answers: dict[str, Answer] = {}
    for each in reversed(in_order):
        if each.place in answers or each.comment in refused:
            continue
        if why := EDITED if each.was_edited else may_answer(each):
            refused[each.comment] = why
            continue
        finding, said = known[each.comment].finding, f"{each.reason} (@{each.login})"
        also = tuple(own for own in finding.ids if own != each.place)
        answers[each.place] = Answer(each.place, finding.severity, finding.message, said, also)
    state = state._replace(
        answered=tuple(sorted(known.values(), key=lambda each: each.comment)[-MOST_ANSWERS:]),
        last_comment=max((state.last_comment, *(each.comment for each in written))),
    )
    return Judged(tuple(answers.values()), state, refused, {each.comment: each.place for each in written})


class Rights:
    """Who may answer: people who may push, asked for once each, but not the ``author`` of the pull request.

    ``author`` is empty if everybody who may push may answer. ``ask`` raises ``ApiError`` if GitHub does not
    say whether a user may push; it has said so of ``confirmed``, empty for nobody.
    """

    def __init__(self, author: str, ask: Callable[[object], bool], confirmed: str = "") -> None:
        self._author = author.casefold()
        self._ask = ask
        self._confirmed = confirmed.casefold()
        self._known: dict[str, str | None] = {}

    def __call__(self, each: Written) -> str | None:
        """Why this comment's writer may not answer; None for somebody who may."""
        login = each.login.casefold()
        if login not in self._known:
            self._known[login] = self._find_reason(login, each.user)
        return self._known[login]

    def _find_reason(self, login: str, user: object) -> str | None:
        if login and login == self._author:
            return BY_AUTHOR
        if login and login == self._confirmed:
            return None
        if len(self._known) >= MOST_WRITERS:
            return NOT_ASKED
        try:
            return None if self._ask(user) else NO_RIGHTS
        except ApiError:
            return NOT_ASKED
