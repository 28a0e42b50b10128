"""Pages of search results for the catalogue's API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT_SIZE = 25
LARGEST_SIZE = 100


@dataclass(frozen=True)
class Page:
    """One page of results, counted from 1, and how many there are.

    ``next`` is the page after it, None on the last one.
    """

    items: Sequence[Any]
    number: int
    pages: int
    next: int | None


def clamp_size(requested: int | None) -> int:
    """The size of a page: what the client asked for, within our limits."""
    if requested is None:
        return DEFAULT_SIZE
    return max(1, min(requested, LARGEST_SIZE))


def page_of(items: Sequence[Any], number: int, requested: int | None = None) -> Page:
    """Page ``number`` of these items. Raises ``LookupError`` for a page that does not exist."""
    size = clamp_size(requested)
    pages = max(1, len(items) // size)
    if not 1 <= number <= pages:
        raise LookupError(f"no page {number} of {pages}")
    start = (number - 1) * size
    shown = items[start : start + size]
    return Page(shown, number, pages, number + 1 if number < pages else None)


def links(page: Page, path: str) -> dict[str, str]:
    """The links of a response, as in RFC 8288."""
    found = {"self": f"{path}?page={page.number}", "last": f"{path}?page={page.pages}"}
    if page.number > 1:
        found["prev"] = f"{path}?page={page.number - 1}"
    if page.next is not None:
        found["next"] = f"{path}?page={page.next}"
    return found


def walk(items: Sequence[Any], requested: int | None = None) -> Iterator[Any]:
    """Every item, as a client sees them that follows ``next``."""
    number: int | None = 1
    while number is not None:
        page = page_of(items, number, requested)
        yield from page.items
        number = page.next
