"""Writes the tables of docs/providers.md, from the tables of providers and protocols and from the tests.

    python -m docs.make_providers

A test compares the page with what this writes.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from aethr.base.providers import PROVIDERS, Provider, split
from aethr.base.records import ModelSpec
from aethr.llm import Call, Deadlines, Endpoint, protocols, routes
from aethr.llm.protocols import PROTOCOLS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "providers.md"
LITELLM = "LiteLLM"
ABOUT_LITELLM = {"test_litellm", "test_packages"}
"""Suites that call models through LiteLLM alone."""


def page() -> str:
    """The page as it is, with its tables made anew, each between its two comments."""
    text = PAGE.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: printed by docs/make_providers.py -->\n", f"<!-- end of {name} -->"
        lines = "".join(f"{line}\n" for line in make())
        text, found = re.subn(
            rf"{re.escape(begin)}.*?{re.escape(end)}", lambda _, new=lines, b=begin, e=end: b + new + e,
            text, flags=re.DOTALL,
        )  # fmt: skip
        if found != 1:
            raise ValueError(f"{PAGE}: the comments of '{name}' are there {found} times, not once")
    return text


def _keys() -> Iterator[str]:
    yield from ("| provider | key | another endpoint |", "| --- | --- | --- |")
    for names, row in _grouped(row for row in PROVIDERS.values() if row.needs_key):
        yield f"| {', '.join(map(_code, names))} | {_either(row.keys)} | {_either(row.base_variables)} |"


def _lanes() -> Iterator[str]:
    yield from ("| protocol | address below the endpoint | providers |", "| --- | --- | --- |")
    for name, protocol in PROTOCOLS.items():
        rows = _grouped(row for row in PROVIDERS.values() if name in row.protocols)
        providers = ", ".join(_code(each) for names, _ in rows for each in names)
        example = ModelSpec(f"{next(row.name for row in PROVIDERS.values() if name in row.protocols)}:NAME")
        path = protocol.path_of(Call("", example, Endpoint(), Deadlines(), 1)).partition("?")[0]
        yield f"| {_code(name)} | {_code(path)} | {providers} |"
    rest = _grouped(row for row in PROVIDERS.values() if not row.protocols)
    others = ", ".join(_code(each) for names, _ in rest for each in names)
    yield f"| through {LITELLM} | | {others}{', ' if others else ''}every other one |"


def _variables() -> Iterator[str]:
    yield from ("| if one of these is set | LiteLLM makes the calls of |", "| --- | --- |")
    for names, row in _grouped(row for row in PROVIDERS.values() if row.litellm_variables):
        yield f"| {', '.join(map(_code, row.litellm_variables))} | {', '.join(map(_code, names))} |"
    yield f"| {', '.join(map(_code, routes.TLS))} | every provider |"


def _conformance() -> Iterator[str]:
    os.environ.setdefault(
        "LITELLM_LOCAL_MODEL_COST_MAP", "True"
    )  # some suites import LiteLLM, which fetches it
    lanes = (*PROTOCOLS, LITELLM)
    yield f"| suite | {' | '.join(lanes)} |"
    yield "| --- |" + " --- |" * len(lanes)
    for path in sorted((ROOT / "tests" / "llm").glob("test_*.py")):
        module = importlib.import_module(f"tests.llm.{path.stem}")
        run = _lanes_of(module)
        if LITELLM in run and len(run) > 1 and path.stem not in ABOUT_LITELLM:
            says = (module.__doc__ or "").partition("\n")[0].rstrip(".")
            marks = " | ".join("yes" if lane in run else "" for lane in lanes)
            yield f"| `tests/llm/{path.name}`: {says} | {marks} |"


def _lanes_of(module: ModuleType) -> set[str]:
    """The lanes of the models that a suite's tests have as parameters or constants.

    A suite that calls through LiteLLM has its transport, or the fixture that loads it.
    """
    values = [value for name, value in vars(module).items() if name.isupper()]
    for function in vars(module).values():
        for mark in getattr(function, "pytestmark", ()) if callable(function) else ():
            values += mark.args[1:2] if mark.name == "parametrize" else ()
    found = {protocols.name_of(name) for value in values for name in _models_in(value)}
    loads = {LITELLM} if vars(module).keys() & {"litellm_is_loaded", "transport_litellm"} else set()
    return {lane for lane in found if lane is not None} | loads


def _models_in(value: Any) -> Iterator[str]:
    """The models in a parameter, at any depth; a provider alone stands for its chat models."""
    if isinstance(value, str):
        try:
            yield from [value] if split(value)[0] in PROVIDERS else []
        except ValueError:
            yield from [f"{value}:m"] if value in PROVIDERS else []
    elif isinstance(value, Iterable) and not isinstance(value, bytes):
        for each in value:
            yield from _models_in(getattr(each, "values", each) if not isinstance(each, dict) else each)


def _grouped(rows: Iterable[Provider]) -> Iterator[tuple[list[str], Provider]]:
    """Rows of one provider under several names as one."""
    found: dict[str, tuple[list[str], Provider]] = {}
    for row in rows:
        found.setdefault(row.prefix, ([], row))[0].append(row.name)
    yield from found.values()


def _either(names: Iterable[str]) -> str:
    return " or ".join(map(_code, names))


def _code(text: str) -> str:
    return f"`{text}`"


TABLES = {"keys": _keys, "lanes": _lanes, "variables": _variables, "conformance": _conformance}
"""By the words in the comments around them."""

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
