"""The project's git directory: changes in it that do not show in the files of the work tree.

Read without git: an agent may leave anything there, and git would wait for ever at a FIFO.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

READ_MAX = 1 << 26
"""Bytes of the largest file that is read; of a larger one size and times are compared."""

_SETTINGS = (
    *("config", "config.worktree", "commondir", "objects/info/alternates"),
    *("info/attributes", "info/exclude", "info/sparse-checkout", "info/grafts"),
)
"""Together with the hooks: what git runs and ignores, how it shows files, where it looks for objects."""

_REFS = ("heads", "tags", "notes", "replace")
"""Refs that are made locally; those of remotes move with every fetch."""

_PACKED = re.compile(rb"^([0-9a-f]{40,64}) (refs/(?:heads|tags|notes|replace)/[^\n]+)$", re.MULTILINE)

_PLAIN_SECTIONS = rb'\[(?:core|user|init|(?:remote|branch) "[^"\\\n]*")\]'
_PLAIN_KEYS = (
    rb"(?:repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks"
    rb"|name|email|defaultbranch|url|fetch|remote|merge)"
)
_PLAIN_LINE = re.compile(rb"\s*(?:" + _PLAIN_SECTIONS + rb"|" + _PLAIN_KEYS + rb" ?=[^\\\n]*)?\s*")
"""A line of a configuration as ``git init`` and ``git clone`` write it: it does not name a program."""


class State(NamedTuple):
    """A repository at one moment.

    ``identity`` differs if another repository takes its place. ``files`` has a hash of each of the settings
    and hooks by name. Refs are as git keeps them: ``packed`` all in one file, ``loose`` in one file each.
    """

    identity: tuple[bytes, ...] = ()
    files: Mapping[str, str] = {}
    packed: bytes = b""
    loose: Mapping[bytes, bytes] = {}

    def refs(self) -> dict[str, str]:
        """The value of each ref: an id, or ``ref: `` and another ref. The format reftable is not read."""
        packed = {match[2]: match[1] for match in _PACKED.finditer(self.packed)}
        refs = {**packed, **self.loose}
        return {
            name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in refs.items()
        }


def state(top: Path, git_dir: Path | None, common: Path | None) -> State:
    """The state of a work tree's repository: ``git_dir``, and the ``common`` directory it may share."""
    named = top / ".git"
    identity = [_content(named), b"link" if named.is_symlink() else b""]
    if git_dir is None or common is None:
        return State(tuple(identity))
    identity += [_kind(path) for path in (git_dir, git_dir / "HEAD", common / "objects", common / "refs")]
    # These may come and go, but at a FIFO git would wait.
    often = (git_dir / "index", common / "config", common / "packed-refs")
    identity += [kind for kind in map(_kind, often) if kind not in (b"", b"file")]
    walked = (walked for kind in _REFS for walked in os.walk(common / "refs" / kind))
    loose = [Path(folder, name) for folder, _, names in walked for name in names]
    files = _files(common) if common == git_dir else (*_files(common), *_files(git_dir))
    return State(
        identity=tuple(identity),
        files={name: sha256(content).hexdigest() for name, content in files},
        packed=_content(common / "packed-refs"),
        loose={os.fsencode(path.relative_to(common)): _content(path).strip() for path in loose},
    )


def oddities(git_dir: Path) -> tuple[str, ...]:
    """The files of a new repository that may run a program. ``git init`` makes none of them."""
    files = dict(_files(git_dir))
    odd = [name for name in files if name.startswith("hooks/") and not name.endswith(".sample")]
    plain = all(_PLAIN_LINE.fullmatch(line) for line in files.pop("config", b"").split(b"\n"))
    odd += [] if plain else ["config"]
    return tuple(odd + [name for name in _SETTINGS if name in files and not name.startswith("info/")])


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    hooks = (f"hooks/{path.name}" for path in sorted((folder / "hooks").glob("*")))
    for name in (*_SETTINGS, *hooks):
        if content := _content(folder / name):
            yield name, content


def _content(path: Path) -> bytes:
    """The content of a file, the kind of anything else, or empty if it does not exist."""
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size <= READ_MAX:
            return path.read_bytes()
        if stat.S_ISREG(found.st_mode):
            return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode()
    except OSError:
        pass
    return _kind(path)


def changed_ns(path: Path | bytes) -> int:
    """The time of the last status change (ctime), which no program can set; 0 if it cannot be read."""
    try:
        return os.lstat(path).st_ctime_ns
    except OSError:
        return 0


def _kind(path: Path) -> bytes:
    """The kind of a file. A folder has its device and inode, so that another one in its place differs."""
    try:
        found = path.stat()
    except OSError:
        return b""
    if stat.S_ISDIR(found.st_mode):
        return f"folder {found.st_dev} {found.st_ino}".encode()
    return b"file" if stat.S_ISREG(found.st_mode) else b"special"
