"""The project's own repository beside its work tree: what changes there without a trace in a file.

Read without git: after an agent has worked anything may stand there, and at a FIFO git would wait for ever.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

READ_MAX = 1 << 26
"""Bytes of a file that are read; of a larger one size and times are compared."""

_SETTINGS = (
    *("config", "config.worktree", "commondir", "objects/info/alternates"),
    *("info/attributes", "info/exclude", "info/sparse-checkout", "info/grafts"),
)
"""With the hooks: what git runs, what it ignores and how it shows files, where it looks for objects."""

_REFS = ("heads", "tags", "notes", "replace")
"""Refs that are made here; those of remotes move with every fetch."""

_PACKED = re.compile(rb"^([0-9a-f]{40,64}) (refs/(?:heads|tags|notes|replace)/[^\n]+)$", re.MULTILINE)

_PLAIN_SECTIONS = rb'\[(?:core|user|init|(?:remote|branch) "[^"\\\n]*")\]'
_PLAIN_KEYS = (
    rb"(?:repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks"
    rb"|name|email|defaultbranch|url|fetch|remote|merge)"
)
_PLAIN_LINE = re.compile(rb"\s*(?:" + _PLAIN_SECTIONS + rb"|" + _PLAIN_KEYS + rb" ?=[^\\\n]*)?\s*")
"""A line of a configuration as ``git init`` and ``git clone`` write it: it names no program."""


class State(NamedTuple):
    """A repository at one moment.

    ``identity`` tells it from another one in its place. ``files`` are settings and hooks by their name, with
    their content. Refs are as git keeps them: ``packed`` in one file, ``loose`` in one each.
    """

    identity: tuple[bytes, ...] = ()
    files: Mapping[str, bytes] = {}
    packed: bytes = b""
    loose: Mapping[bytes, bytes] = {}

    def refs(self) -> dict[str, str]:
        """What each ref stands for: an id, or ``ref: `` and another ref. Not read: the format reftable."""
        packed = {match[2]: match[1] for match in _PACKED.finditer(self.packed)}
        return {_text(name): _text(value) for name, value in {**packed, **self.loose}.items()}


def state(top: Path, git_dir: Path | None, common: Path | None) -> State:
    """The state of a work tree's repository: ``git_dir``, and ``common``, which it may share with others."""
    named = top / ".git"
    identity = [_content(named), b"link" if named.is_symlink() else b""]
    if git_dir is None or common is None:
        return State(tuple(identity))
    identity += [_kind(path) for path in (git_dir, git_dir / "HEAD", common / "objects", common / "refs")]
    # These come and go; but git would wait at a FIFO.
    often = (git_dir / "index", common / "config", common / "packed-refs")
    identity += [kind for kind in map(_kind, often) if kind not in (b"", b"file")]
    return State(
        identity=tuple(identity),
        files=dict(_files(common) if common == git_dir else (*_files(common), *_files(git_dir))),
        packed=_content(common / "packed-refs"),
        loose=dict(_loose(common / "refs")),
    )


def older(found: State, git_dir: Path | None, common: Path | None, than_ns: int) -> State:
    """``found`` without the settings, hooks and refs that were written since a time of the wall clock."""
    if git_dir is None or common is None:
        return found

    def is_older(name: str) -> bool:
        return all(_changed_ns(folder / name) < than_ns for folder in (git_dir, common))

    return found._replace(
        files={name: content for name, content in found.files.items() if is_older(name)},
        loose={name: value for name, value in found.loose.items() if is_older(os.fsdecode(name))},
    )


def oddities(git_dir: Path) -> tuple[str, ...]:
    """What in a new repository may run a program, which nothing does that ``git init`` makes."""
    files = dict(_files(git_dir))
    odd = [name for name in files if name.startswith("hooks/") and not name.endswith(".sample")]
    plain = all(_PLAIN_LINE.fullmatch(line) for line in files.pop("config", b"").split(b"\n"))
    odd += [] if plain else ["config"]
    return tuple(odd + [name for name in _SETTINGS if name in files and not name.startswith("info/")])


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    hooks = (f"hooks/{path.name}" for path in sorted((folder / "hooks").glob("*")))
    for name in (*_SETTINGS, *hooks):
        if content := _content(folder / name):
            yield name, content


def _loose(refs: Path) -> Iterator[tuple[bytes, bytes]]:
    for kind in _REFS:
        for folder, _, names in os.walk(refs / kind):
            for name in names:
                path = Path(folder, name)
                yield os.fsencode(path.relative_to(refs.parent)), _content(path).strip()


def _content(path: Path) -> bytes:
    """What stands in a file; of anything else what it is, and nothing where nothing is."""
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size <= READ_MAX:
            return path.read_bytes()
        if stat.S_ISREG(found.st_mode):
            return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode()
    except OSError:
        pass
    return _kind(path)


def _changed_ns(path: Path) -> int:
    try:
        return path.lstat().st_ctime_ns
    except OSError:
        return 0


def _kind(path: Path) -> bytes:
    """Which thing this is, folders by device and inode: another one of the same name is another one."""
    try:
        found = path.stat()
    except OSError:
        return b""
    if stat.S_ISDIR(found.st_mode):
        return f"folder {found.st_dev} {found.st_ino}".encode()
    return b"file" if stat.S_ISREG(found.st_mode) else b"special"
