"""The project's own instructions for an agent, such as AGENTS.md: which files it gets, and their text.

Agents follow links and imports anywhere, even to ``.env`` and out of the project. So they do not read
instructions in the tree themselves; they get what is collected here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from aethr import git
from aethr.agents import Agent, Guidance
from aethr.base.sanitize import one_line, reveal, reveal_name
from aethr.context import paths
from aethr.git import tracking

MOST_CHARS = 32_768
"""All files together; Codex's own limit. On Linux one argument of a program has at most 128 KiB."""

_DEEPEST = 5
_IMPORT = re.compile(r"(?:^|(?<=[\s(]))@(?P<path>(?:[^\s\\]|\\ )+)", re.MULTILINE)
_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)
"""An import in code is an example: https://code.claude.com/docs/en/memory#import-additional-files"""


def folders(root: Path) -> tuple[Path, ...]:
    """The folders from the top of the project down to ``root``, both included."""
    root = root.resolve()
    here = git.checkout(root)
    top = (here.top if here else root).resolve()
    between = [folder for folder in (root, *root.parents) if folder.is_relative_to(top)]
    return tuple(reversed(between)) or (root,)


def collect(agent: Agent, within: tuple[Path, ...]) -> Guidance:
    """The instructions for ``agent`` in the folders ``within``, top folder first. Raises ``GitError``."""
    found = _Found(within[0], agent.imports)
    for folder in within:
        for group in agent.guidance:
            path = next((folder / name for name in group if os.path.lexists(folder / name)), None)
            if path is not None:
                found.take(path)
    text = "\n\n".join(found.texts)
    if len(text) > MOST_CHARS:
        text = text[:MOST_CHARS]
        found.notes.append(f"the project's instructions were cut after {MOST_CHARS:,} characters")
    ignored = [
        reveal_name(os.path.relpath(folder / name, within[0]))
        for folder in within
        for name in agent.unread
        if os.path.lexists(folder / name)
    ]
    if ignored:
        found.notes.append(
            f"{agent.name} was kept from reading {', '.join(ignored)}: settings in the tree do not apply"
        )
    return Guidance(tuple(found.files), text, tuple(found.notes))


@dataclass(slots=True)
class _Found:
    top: Path
    imports: bool
    files: list[Path] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)

    def take(self, path: Path, depth: int = 0) -> None:
        """Add a file and its imports, or a note on why it is excluded."""
        real = path.resolve()
        if real in self.seen:
            return
        self.seen.add(real)
        shown = reveal_name(os.path.relpath(path, self.top))
        reason = self._find_refusal(real)
        if reason is None:
            try:
                with real.open("rb") as file:
                    content = file.read(4 * MOST_CHARS).decode("utf-8", "replace")
            except OSError as error:
                reason = error.strerror or "it cannot be read"
        if reason is not None:
            self.notes.append(f"the agent was not given {shown}: {reason}")
            return
        self.files.append(path)
        self.texts.append(f"Instructions of the project, from {shown}:\n\n{reveal(content)[0]}")
        if self.imports and depth < _DEEPEST:
            for match in _IMPORT.finditer(_CODE.sub("", content)):
                named = match["path"].replace("\\ ", " ").partition("#")[0]
                if not named or "\0" in named:
                    continue
                if named.startswith("~"):
                    self.notes.append(f"the agent was not given {one_line(named)}: it is outside the project")
                elif os.path.lexists(real.parent / named):
                    self.take(real.parent / named, depth + 1)

    def _find_refusal(self, real: Path) -> str | None:
        if not real.is_relative_to(self.top):
            return "it is outside the project"
        if not real.is_file():
            return "it is not a file"
        name = real.relative_to(self.top).as_posix()
        if refused := paths.refusal(name):
            return refused
        return "git ignores it" if tracking.is_ignored(self.top, name) else None
