"""The list of documents that a person sees in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class User:
    """Somebody who is logged in."""

    name: str
    groups: frozenset[str]


@dataclass(frozen=True)
class Document:
    """A document; members of one of ``readers`` may see that it exists."""

    folder: str
    title: str
    readers: frozenset[str]
    archived: bool = False


class Listing:
    """Lists documents from a store. ``load`` reads a folder, which takes about a second."""

    def __init__(self, load: Callable[[str], Iterable[Document]], clock: Callable[[], float]) -> None:
        self._load = load
        self._clock = clock
        self.loads = 0

    def titles(self, user: User, folder: str, archived: bool = False) -> list[str]:
        """The titles of the documents in a folder that this person may see, sorted."""
        self.loads += 1
        return sorted(
            document.title
            for document in self._load(folder)
            if document.archived == archived and may_see(user, document)
        )

    def count(self, user: User, folder: str) -> int:
        """How many documents in a folder this person may see, for the badge in the menu."""
        return len(self.titles(user, folder))


def may_see(user: User, document: Document) -> bool:
    """Whether a person is in one of the groups that may read a document."""
    return not user.groups.isdisjoint(document.readers)
