"""Where an agent keeps a session: in a private folder of the run, which is removed at its end.

What an agent cannot keep there is removed or restored at the end of the context. What the user has in the
places of an agent's own settings and logins stays where it is, and is used.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from aethr.agents import Run
from aethr.agents.events import count_opencode
from aethr.base.records import Usage

_OPENCODE_DB = "opencode.db"
_SCHEMA = b'"$schema": "https://opencode.ai/config.json",'
"""What OpenCode inserts into a settings file, after the first brace."""


@contextmanager
def open_opencode(run: Run, folder: Path) -> Iterator[Mapping[str, str]]:
    """Sessions in a database of their own; settings files without the line that OpenCode adds to them.

    It adds ``$schema`` to every file that lacks it, as soon as it starts, and no option keeps it from that.
    """
    home = Path(run.settings.get("HOME") or Path.home())
    own = Path(run.settings.get("XDG_CONFIG_HOME") or home / ".config", "opencode")
    folders = [own, home / ".opencode", *filter(None, [_path(run, "OPENCODE_CONFIG_DIR")])]
    names = ("config.json", "opencode.json", "opencode.jsonc")
    files = [place / name for place in folders for name in names]
    files += filter(None, [_path(run, "OPENCODE_CONFIG")])
    before = {file: _read(file) for file in files}
    try:
        yield {"OPENCODE_DB": str(folder / _OPENCODE_DB)}
    finally:
        for file, content in before.items():
            opening, brace, _ = content.partition(b"{")
            head, line, rest = _read(file).partition(_SCHEMA)
            if brace and _SCHEMA not in content and line and head.strip() == b"{":
                with suppress(OSError):  # in place: it may be a link into the user's dotfiles
                    file.write_bytes(opening + brace + rest)


def _path(run: Run, variable: str) -> Path | None:
    return run.root / run.settings[variable] if run.settings.get(variable) else None


def _read(file: Path) -> bytes:
    with suppress(OSError):
        return file.read_bytes() if file.is_file() else b""
    return b""


def count_opencode_subagents(folder: Path) -> Usage:
    """What the sub-agents of a run used, by its database; unknown if that cannot be read."""
    import sqlite3

    query = (
        "SELECT message.data FROM message JOIN session ON session.id = message.session_id "
        "WHERE session.parent_id IS NOT NULL"
    )
    try:
        with closing(sqlite3.connect(f"{(folder / _OPENCODE_DB).as_uri()}?mode=ro", uri=True)) as database:
            texts = [text for (text,) in database.execute(query)]
        messages = [each for each in map(json.loads, texts) if each["role"] == "assistant"]
        return Usage.sum(list(map(count_opencode, messages)))
    except (sqlite3.Error, ValueError, TypeError, KeyError, RecursionError):
        return Usage()


@contextmanager
def open_claude(run: Run, folder: Path) -> Iterator[Mapping[str, str]]:
    """Output of tools in the folder; without the description of sub-agents, which it keeps in any case."""
    try:
        yield {"CLAUDE_CODE_TMPDIR": str(folder)}
    finally:
        own = run.settings.get("CLAUDE_CONFIG_DIR")
        projects = Path(own or Path(run.settings.get("HOME") or Path.home(), ".claude"), "projects")
        for left in projects.glob(f"*/{run.session}"):
            shutil.rmtree(left, ignore_errors=True)


_SHIELDED = (".git", ".agents", ".aws", ".codex")
"""Codex's sandbox protects these in every folder that it may write to, and makes those that are not there.

They stay if a command still runs when it ends. An empty ``/tmp/.git`` keeps git from working in all of /tmp.
"""


@contextmanager
def open_codex(run: Run, folder: Path) -> Iterator[Mapping[str, str]]:
    """With ``allow``, a home of its own; afterwards without the empty folders that its sandbox leaves."""
    writable = {run.root, Path("/tmp"), Path(run.settings.get("TMPDIR") or "/tmp")}  # noqa: S108 - its choice
    shields = [place / name for place in writable for name in _SHIELDED]
    made = [path for path in shields if not os.path.lexists(path)]
    try:
        yield {"CODEX_HOME": str(folder)} if _add_rules(run, folder) else {}
    finally:
        for path in made:
            with suppress(OSError):  # it is not there, or has content
                path.rmdir()


def _add_rules(run: Run, folder: Path) -> bool:
    """Make ``folder`` a home with links to what is in the user's, and rules: only there Codex reads them.

    https://developers.openai.com/codex/rules: such a command runs outside the sandbox. The user's rules apply
    too, and the strictest counts. False if nothing is allowed.
    """
    if not run.allow:
        return False
    home = Path(run.settings.get("CODEX_HOME") or Path(run.settings.get("HOME") or Path.home(), ".codex"))
    rules = folder / "rules"
    rules.mkdir()
    for own, place in ((home.resolve(), folder), (home.resolve() / "rules", rules)):
        for each in own.iterdir() if own.is_dir() else ():
            if not (place / each.name).exists():
                (place / each.name).symlink_to(each)
    lines = (f'prefix_rule(pattern={json.dumps(each.split())}, decision="allow")' for each in run.allow)
    (rules / f"{run.session}.rules").write_text("\n".join((*lines, "")), encoding="utf-8")
    return True
