"""The installed program of an agent: its path, its options, and which of the user's variables it gets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from shutil import which
from typing import NamedTuple
from urllib.parse import urlsplit

from aethr.agents import Agent
from aethr.base.errors import AgentError, ProcessError
from aethr.base.process import run
from aethr.base.providers import provider_of, split
from aethr.base.records import ModelSpec
from aethr.base.sanitize import one_line
from aethr.llm.routes import Destination, base_variable, read_address

_USER = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM")
_FOLDERS = ("TMPDIR", "TEMP", "TMP")
_CERTIFICATES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_OPT_OUTS = ("DO_NOT_TRACK", "DISABLE_*")
"""What you have switched off stays off, for any agent."""
_PLAIN = frozenset((*_USER, *_FOLDERS, *_CERTIFICATES, *_PROXIES, *map(str.upper, _PROXIES)))
_PREFIXES = ("LC_", "XDG_")
_KEYS = ("_API_KEY", "_AUTH_TOKEN")


class Access(NamedTuple):
    """The key and the address for the model of a step, each with the variable that it came from."""

    key_variable: str = ""
    key: str = ""
    base_variable: str = ""
    base: str = ""


def access(model: ModelSpec, environ: Mapping[str, str]) -> Access:
    """The one key and the one address for a model; empty if the environment does not have them.

    A missing key is not a mistake here: agents have their own logins. Raises ``UsageError`` if the model
    names an endpoint that is not set.
    """
    key, base = provider_of(model.name).key_in(environ) or "", base_variable(model, environ) or ""
    return Access(key, environ.get(key, ""), base, environ.get(base, ""))


def find_destinations(agent: Agent, model: ModelSpec, environ: Mapping[str, str]) -> Iterator[Destination]:
    """Where the calls of its model go, as Aethr sets it; what else the agent calls is its own affair.

    Raises ``UsageError`` for a broken endpoint.
    """
    provider, found = split(model.name)[0], access(model, environ)
    default = agent.addresses.get(provider, "")
    if not default:
        yield Destination(None, unknown=f"{agent.name} calls {provider} where its own settings say")
    elif found.base:
        yield Destination(read_address(model.name, found.base_variable, found.base), found.base_variable)
    else:
        yield Destination(urlsplit(default))
        if not found.key and provider in agent.logins:
            yield Destination(urlsplit(agent.logins[provider]))


def filter_environment(environ: Mapping[str, str], agent: Agent, root: Path) -> dict[str, str]:
    """What ``agent`` gets of the user's environment: what programs need, opt-outs, its settings; no key.

    ``PWD`` is set because OpenCode follows it instead of its working directory.
    """
    own = (f"{agent.own_prefix}*", *agent.keeps, *_OPT_OUTS)

    def gets(name: str) -> bool:
        if name in _PLAIN or name.startswith(_PREFIXES):
            return True
        return not name.endswith(_KEYS) and any(fnmatchcase(name, pattern) for pattern in own)

    return {**{name: value for name, value in environ.items() if gets(name)}, "PWD": str(root)}


def find_program(name: str, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The path of a program, or else of a file with that name that is not executable.

    Only absolute folders of PATH count: with a relative one a file of the project could replace the program.
    """
    folders = [
        folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if Path(folder).is_absolute()
    ]
    found = which(name, path=os.pathsep.join(folders)) if folders else None
    files = (str(Path(folder, name)) for folder in folders if Path(folder, name).is_file())
    return found, None if found else next(files, None)


ROOT = Path("/")
"""Where an agent is asked for its version and options: a folder that is not a project."""

PROBE_S = 60.0
"""Seconds for an agent to print its version or its options: a first start may unpack files."""


class Installed(NamedTuple):
    """``program`` is its absolute path, ``options`` the long options in its help."""

    program: str
    version: str
    options: frozenset[str]


def probe(agent: Agent, env: Mapping[str, str]) -> Installed:
    """Find the agent and ask for its version and options. Raises ``AgentError`` with the install hint."""
    program, unusable = find_program(agent.name, env)
    if program is None:
        problem = f"{unusable} is not executable" if unusable else "not found on PATH"
        raise AgentError(f"{agent.name}: {problem}", _hint(agent))
    said = _ask(agent, program, ("--version",), env)
    version = re.search(r"\d+\.\d+\.\d+\S*", said)
    if version is None:
        raise AgentError(
            f"{agent.name}: {program} does not report a version: {one_line(said)!r}", _hint(agent)
        )
    options = frozenset(re.findall(r"--[a-z][a-z-]+", _ask(agent, program, agent.help, env)))
    missing = [option for option in agent.needs if option not in options]
    if missing:
        raise AgentError(
            f"{agent.name} {version[0]} is too old: it does not have {', '.join(missing)}", _hint(agent)
        )
    return Installed(program, version[0], options)


def find_skip_flag(agent: Agent, installed: Installed) -> str:
    """The option of this version that skips permission checks. Raises ``AgentError`` if there is none."""
    found = next((flag for flag in agent.skip_flags if flag in installed.options), None)
    if found is None:
        raise AgentError(
            f"{agent.name} {installed.version} does not have an option that skips permission checks",
            _hint(agent),
        )
    return found


def _ask(agent: Agent, program: str, args: tuple[str, ...], env: Mapping[str, str]) -> str:
    try:
        # Not in the project: OpenCode loads plugins of the tree even to print its help.
        done = run((program, *args), cwd=ROOT, env={**env, "PWD": str(ROOT)}, timeout_s=PROBE_S)
    except ProcessError as error:
        raise AgentError(str(error), _hint(agent)) from error
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    if done.code != 0:
        raise AgentError(
            f"{agent.name}: `{' '.join(args)}` failed (code {done.code}): {one_line(said.strip())}",
            _hint(agent),
        )
    return said


def _hint(agent: Agent) -> str:
    return f"Install or update it: {agent.install}"
