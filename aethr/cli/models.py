"""``aethr models``: the models that a workflow can name, by the price file and the table of providers."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aethr.base.errors import ExitCode
from aethr.base.providers import EFFORTS
from aethr.base.sanitize import one_line
from aethr.base.words import capped, counted, terminal_width
from aethr.config import credentials
from aethr.llm import catalog
from aethr.llm.catalog import Listed
from aethr.workflow import planning


def main(
    text: Sequence[str], *, every: bool = False, as_json: bool = False, today: datetime.date | None = None
) -> int:
    """Print a line for each model with all words of ``text``: aligned on a terminal, elsewhere with tabs.

    Without ``text`` these are the models of the providers that can be called: a key is set, or none is
    needed. Retired models are only listed with ``every``.
    """
    today = today or datetime.date.today()
    dotenv = credentials.load(planning.project_root(Path.cwd()))
    environ = {**dotenv.values, **os.environ}
    words = " ".join(text).split()
    found = [catalog.describe(name, environ) for name in catalog.find(words)]
    chosen = found if words or every else _of_callable_providers(found)
    shown = [each for each in chosen if every or each.retires is None or each.retires >= today]
    width = terminal_width(sys.stdout)
    if as_json:
        sys.stdout.write(json.dumps([_as_json(each, today) for each in shown], indent=2) + "\n")
    elif width is not None and shown:
        sys.stdout.write("".join(f"{line}\n" for line in _table(shown, width)))
    else:
        sys.stdout.write("".join("\t".join(_cells(each)) + "\n" for each in shown))
    for warning in dotenv.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    if not shown:
        sys.stderr.write(f"{_explain_nothing(words, len(chosen))}\n")
        return ExitCode.GATE
    if width is not None and not as_json:
        notes = _notes(shown, retired=len(chosen) - len(shown), others=len(found) - len(chosen))
        sys.stdout.write("".join(f"\n{note}" for note in notes) + "\n")
    return ExitCode.OK


def _of_callable_providers(found: Sequence[Listed]) -> Sequence[Listed]:
    """Those of providers with a key, or that need none; without any key, those of all in Aethr's table."""
    with_key = [each for each in found if each.has_key or each.provider.own_server]
    if any(each.has_key for each in with_key):
        return with_key
    return [each for each in found if each.provider.listed]


def _explain_nothing(words: Sequence[str], retired: int) -> str:
    asked = one_line(" ".join(words))
    if retired:
        return f"no model matches '{asked}', but {counted(retired, 'retired model')}: --all lists them"
    near = ", ".join(one_line(each) for each in catalog.nearest(" ".join(words)))
    return f"no model matches '{asked}'" + (f"; near: {near}" if near else "")


def _notes(shown: Sequence[Listed], retired: int, others: int) -> Iterator[str]:
    """What a person may ask next: where the keys are, and what is not listed."""
    by_key = {each.provider.name: each for each in shown if each.key is not None}
    here = [f"{name} ({each.key})" for name, each in by_key.items() if each.has_key]
    missing = [f"{name} ({each.key})" for name, each in by_key.items() if not each.has_key]
    if here:
        yield f"Key set: {capped(here)}."
    if missing:
        yield f"No key: {capped(missing)}. `aethr auth login PROVIDER` stores one."
    if any(each.name.endswith(f":{catalog.ANY}") for each in shown):
        yield f"{catalog.ANY} is any model of a provider that the price file does not list."
    if others:
        yield f"{counted(others, 'more model')} of other providers: TEXT searches them, --all lists them."
    if retired:
        yield f"{counted(retired, 'retired model')}: --all lists them."


def _as_json(model: Listed, today: datetime.date) -> dict[str, Any]:
    """Prices are US dollars for a million tokens; null is unknown."""
    return {
        "name": model.name,
        "lane": model.lane,
        "protocol": model.protocol,
        "missing_package": model.missing,
        "input_usd": _per_million(model.price.input_usd),
        "output_usd": _per_million(model.price.output_usd),
        "window": model.price.window,
        "max_answer": model.price.max_output,
        "effort": model.effort,
        "retires": model.retires.isoformat() if model.retires else None,
        "retired": model.retires is not None and model.retires < today,
        "key": model.key,
        "key_set": model.has_key,
    }


def _per_million(usd: float | None) -> float | None:
    return None if usd is None else round(usd * 1_000_000, 6)


class _Column(NamedTuple):
    """``rank`` says which columns stay where not all fit: those with the lowest."""

    title: str
    rank: int
    right: bool = False


_COLUMNS = (
    _Column("model", 0),
    _Column("$/M in", 1, right=True),
    _Column("$/M out", 1, right=True),
    _Column("window", 2, right=True),
    _Column("answer", 3, right=True),
    _Column("effort", 7),
    _Column("retires", 5),
    _Column("lane", 6),
    _Column("key", 4),
)


def _cells(model: Listed) -> list[str]:
    """What a line of a pipe has, in the order of ``_COLUMNS``; empty is unknown."""
    price = model.price
    return [
        one_line(model.name),
        _dollars(price.input_usd),
        _dollars(price.output_usd),
        str(price.window or ""),
        str(price.max_output or ""),
        ",".join(model.effort or ()),
        str(model.retires or ""),
        _lane(model),
        f"{model.key}{'' if model.has_key else ' is not set'}" if model.key else "",
    ]


def _short_cells(model: Listed) -> list[str]:
    """What a line of a terminal has."""
    cells = _cells(model)
    price = model.price
    cells[3:6] = [_rounded(price.window), _rounded(price.max_output), _range(model.effort or ())]
    cells[8] = "yes" if model.has_key else "no" if model.key else ""
    return cells


def _lane(model: Listed) -> str:
    if model.missing:
        return f"needs {model.missing}"
    return model.protocol or ("LiteLLM" if model.lane else "")


def _dollars(usd: float | None) -> str:
    """Dollars for a million tokens with as many decimals as they need, two at least."""
    if usd is None:
        return ""
    whole, _, decimals = f"{usd * 1_000_000:.4f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def _rounded(tokens: int | None) -> str:
    if tokens is None:
        return ""
    if tokens >= 1_000_000:
        return f"{tokens / 1_000_000:.3g}M"
    return f"{tokens / 1000:.3g}k" if tokens >= 1000 else str(tokens)


def _range(words: tuple[str, ...]) -> str:
    """``low-high`` for words that follow each other."""
    first = EFFORTS.index(words[0]) if words else 0
    if len(words) > 2 and words == EFFORTS[first : first + len(words)]:
        return f"{words[0]}-{words[-1]}"
    return ",".join(words)


def _table(shown: Sequence[Listed], width: int) -> Iterator[str]:
    """A title and a line for each model, with as many columns as fit. Empty columns are left out."""
    rows = [_short_cells(each) for each in shown]
    sizes = {
        column: max(len(column.title), *(len(row[number]) for row in rows))
        for number, column in enumerate(_COLUMNS)
        if any(row[number] for row in rows)
    }
    kept = sorted(sizes, key=lambda column: column.rank)
    while len(kept) > 1 and sum(sizes[column] + 2 for column in kept) - 2 > width:
        kept.pop()
    lines = [[column.title for column in _COLUMNS], *rows]
    for cells in lines:
        line = "  ".join(
            cell.rjust(sizes[column]) if column.right else cell.ljust(sizes[column])
            for column, cell in zip(_COLUMNS, cells, strict=True)
            if column in kept
        )
        yield line.rstrip() if len(line.rstrip()) <= width else line[: width - 1] + "…"
    if hidden := [column.title for column in _COLUMNS if column in sizes and column not in kept]:
        yield f"\nA wider terminal also shows: {', '.join(hidden)}; --json has everything."
