"""The models that can be named: those of the price file, and a line for each provider that has none there.

LiteLLM is not imported. A row of the price file is untrusted text.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from aethr.base.errors import UsageError
from aethr.base.providers import PROVIDERS, Provider, provider_of, split
from aethr.base.records import ModelSpec
from aethr.llm import effort, routes, spending
from aethr.llm.spending import Price

ANY = "NAME"
"""Stands for the models of a provider that has none in the price file."""

_CALLED = ("chat", "responses")
"""The kinds of models, in the words of the price file, that answer a prompt with text."""


class Listed(NamedTuple):
    """A model, and what a run would do with it.

    ``protocol`` is the one in which Aethr itself calls it, None for a call through LiteLLM; ``lane`` says
    which of both, None where ``AETHR_TRANSPORT`` excludes it. ``missing`` is the package that its calls need
    and that is not installed. ``effort`` is None where the file does not say which words it takes.
    ``key`` is the variable with its key, or the one to set; None for a model that needs none, or whose
    credentials only LiteLLM knows.
    """

    name: str
    lane: str | None
    protocol: str | None
    missing: str | None
    price: Price
    effort: tuple[str, ...] | None
    retires: datetime.date | None
    key: str | None
    has_key: bool

    @property
    def provider(self) -> Provider:
        return provider_of(self.name)


@functools.cache
def names() -> tuple[str, ...]:
    """``provider:model`` for each model, as a workflow names it: first those of ``PROVIDERS``, in order."""
    by_prefix: dict[str, str] = {}
    for known in PROVIDERS.values():
        by_prefix.setdefault(spending.called_provider(known.prefix), known.name)
    rows = spending.all_rows()
    found: dict[str, set[str]] = {provider: set() for provider in by_prefix.values()}
    for name, row in rows.items():
        target = rows.get(str(row.get("alias_of")), row)
        prefix = spending.called_provider(str(target.get("litellm_provider")))
        provider = by_prefix.get(prefix, prefix)
        model = f"{provider}:{name.removeprefix(f'{prefix}/')}"
        if target.get("mode") in _CALLED and _is_name(model):
            found.setdefault(provider, set()).add(model)
    order = [*by_prefix.values(), *sorted(found.keys() - by_prefix.values())]
    return tuple(name for each in order for name in sorted(found[each] or {f"{each}:{ANY}"}))


def find(words: Iterable[str]) -> list[str]:
    """The names that have every word in them, in either case, and by any name of their provider."""
    asked = [word.lower() for word in words]
    spelled = _spellings()
    return [name for name in names() if all(word in spelled[name] for word in asked)]


def nearest(text: str) -> list[str]:
    """At most three names that are similar to ``text``, as a whole or in the part for the model."""
    from difflib import get_close_matches  # only needed for an error

    known: dict[str, str] = {}
    for name in names():
        known.setdefault(split(name)[1].lower(), name)
        known[name.lower()] = name
    return list(dict.fromkeys(known[each] for each in get_close_matches(text.lower(), known, n=3)))


def describe(name: str, environ: Mapping[str, str]) -> Listed:
    """What a run with these variables would do with the model."""
    from aethr.llm import protocols  # loads ssl, which a check does without

    provider = provider_of(name)
    package = routes.missing_package(name, environ)
    try:
        lane = "direct" if routes.is_direct(name, environ) else "litellm"
    except UsageError:
        lane = None
    key = provider.key_in(environ)
    return Listed(
        name=name,
        lane=lane,
        protocol=protocols.name_of(name) if lane == "direct" else None,
        missing=package.name if package is not None else None,
        price=spending.lookup(name) or Price(),
        effort=effort.words(name),
        retires=spending.retires(name),
        key=key or (provider.keys[0] if provider.needs_key else None),
        has_key=key is not None,
    )


def find_doubts(models: Iterable[ModelSpec], environ: Mapping[str, str]) -> Iterator[str]:
    """What may go wrong with calls of these models: names that are not known, settings that do not fit."""
    called = list(models)
    yield from dict.fromkeys(filter(None, (_find_unknown(model, environ) for model in called)))
    yield from dict.fromkeys(doubt for model in called for doubt in effort.find_doubts(model))


def _find_unknown(model: ModelSpec, environ: Mapping[str, str]) -> str | None:
    """A note on a model that is not in the price file, where that has the models of its provider.

    A newer model may exist, so it is not an error. Nothing is known about a server elsewhere.
    """
    provider = provider_of(model.name)
    elsewhere = model.endpoint is not None or provider.base_in(environ) is not None
    if elsewhere or not provider.needs_key or spending.price_row(model.name) is not None:
        return None
    from difflib import get_close_matches

    listed = [name for name in names() if provider_of(name).prefix == provider.prefix]
    known = {split(name)[1]: f"{provider.name}:{split(name)[1]}" for name in listed}
    if known.keys() <= {ANY}:
        return None
    near = ", ".join(known[each] for each in get_close_matches(split(model.name)[1], known, n=3))
    return f"{model.name} is not in LiteLLM's price file{f'; near: {near}' if near else ''}"


@functools.cache
def _spellings() -> Mapping[str, str]:
    """By its name, a model in all ways to write it, in lower case."""
    rows: dict[str, list[Provider]] = {}
    for row in PROVIDERS.values():
        rows.setdefault(row.prefix, []).append(row)

    def spell(name: str) -> Iterator[str]:
        _, model = split(name)
        own = provider_of(name)
        for row in rows.get(own.prefix, [own]):
            for each in (row.name, row.prefix, *row.aliases):
                yield f"{each}:{model} {each}/{model}"

    return {name: " ".join(spell(name)).lower() for name in names()}


def _is_name(text: str) -> bool:
    try:
        split(text)
    except ValueError:
        return False
    return True
