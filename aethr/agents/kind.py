"""What is known of one kind of agent: a row of the table in ``agents``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from aethr.agents.environment import Endpoint
from aethr.agents.events import Event, Progress, Transcript


class Run(NamedTuple):
    """One run of an agent. ``model`` is the name without its provider.

    ``skip_flag`` skips its permission checks, empty to keep them; ``options`` are those that the
    installed version names in its help.
    """

    step: str
    provider: str
    model: str
    root: Path
    skip_flag: str
    options: frozenset[str]


def _silent(_line: str, _transcript: Transcript) -> Progress:
    yield from ()


class Agent(NamedTuple):
    """How one agent is found, called, and understood.

    - ``help``: the arguments that print its options; ``needs``: those it must have.
    - ``skip_flags``: options that skip its permission checks; the first that it has is taken.
    - ``arguments``: builds its command line; the prompt comes on standard input.
    - ``read``: takes one event; ``read_error``: takes one line of standard error.
    - ``own_prefix``: begins the names of its own environment variables.
    - ``login``, ``models``: for error messages: the command to log in, where its models are listed.
    - ``providers``: whose models it can use, empty for any; ``tells_cost``: whether its events have a price.
    - ``keys``: by provider, the variable it reads the key from where that is not the usual one.
    - ``endpoint``: how it is told another address of a provider.
    """

    name: str
    install: str
    help: tuple[str, ...]
    needs: tuple[str, ...]
    skip_flags: tuple[str, ...]
    arguments: Callable[[Run], list[str]]
    read: Callable[[Event, Transcript], Progress]
    own_prefix: str
    login: str
    models: str
    read_error: Callable[[str, Transcript], Progress] = _silent
    providers: tuple[str, ...] = ()
    tells_cost: bool = True
    keys: Mapping[str, str] = MappingProxyType({})
    endpoint: Callable[[str, str], Endpoint] = lambda _provider, _base: Endpoint()
