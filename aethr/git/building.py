"""New repositories for `aethr eval`, from files in memory, always with the same commit ids.

No configuration, template, hook or attribute of the user or the system takes part. The files may come from
anywhere: ``check_name`` says which names they cannot have.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, TypeAlias

from aethr.base import process
from aethr.base.errors import GitError
from aethr.base.process import Finished
from aethr.base.records import Checkout, Scope, Survey
from aethr.git import call

FileMode = Literal["100644", "100755", "120000"]
"""git's modes of a file, a program and a link."""

BASE, HEAD = "base", "head"
"""The branches of a repository: the version before the change, and the one under review."""


class Blob(NamedTuple):
    """A file of a tree; ``data`` of a link is its target."""

    mode: FileMode
    data: bytes


Tree: TypeAlias = Mapping[str, Blob]
"""The files by their paths, with slashes."""

_WHO = "Aethr <aethr@localhost> 1700000000 +0000"
_MARKS = "aethr-commits"


def make_repository(folder: Path, base: Tree, head: Tree, message: str) -> Survey:
    """A repository in an empty ``folder``: a commit with ``base``, then one with ``head``, checked out.

    The survey is of the change between the two. Raises ``GitError``.
    """
    _call(folder, "init", "--quiet", "--template=", "--object-format=sha1", f"--initial-branch={HEAD}")
    stream = b"".join((*_commit(1, BASE, base, "Base"), *_commit(2, HEAD, head, message), b"done\n"))
    _call(folder, "fast-import", "--quiet", "--done", f"--export-marks=.git/{_MARKS}", stdin=stream)
    _call(folder, "reset", "--quiet", "--hard")
    return survey(folder)


def survey(folder: Path) -> Survey:
    """The change of a repository that ``make_repository`` has made."""
    marks = dict(line.split() for line in (folder / ".git" / _MARKS).read_text().splitlines())
    first, last, folder = marks[":1"], marks[":2"], folder.resolve()
    scope = Scope("range", f"{BASE}..{HEAD}", base=first, head=last, head_sha=last, base_side=first)
    return Survey(scope, Checkout(folder, folder, last, HEAD))


@contextmanager
def applied(tree: Tree, patch: bytes) -> Iterator[Path]:
    """A folder, until the end of the block, with the files of ``tree`` and this patch applied to them.

    git changes no file outside of it, and writes through no link. Raises ``GitError``.
    """
    with tempfile.TemporaryDirectory(prefix="aethr-patch-") as made:
        folder = Path(made)
        for name, content in tree.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content.mode == "120000":
                path.symlink_to(os.fsdecode(content.data))
            else:
                path.write_bytes(content.data)
                path.chmod(int(content.mode[3:], 8))
        _call(folder, "apply", "--whitespace=nowarn", stdin=patch)
        yield folder


def check_name(path: str) -> str:
    """Why git, or a file system that ignores case, would take a path of a tree for its own; else empty.

    https://git-scm.com/docs/git-config#Documentation/git-config.txt-coreprotectNTFS
    """
    for part in PurePosixPath(path).parts:
        plain = "".join(char for char in part if char.isprintable()).casefold()
        if plain.split(":")[0].rstrip(". ") in (".git", "git~1"):
            return "git keeps its own files under this name"
    return ""


def _commit(mark: int, branch: str, tree: Tree, message: str) -> Iterator[bytes]:
    """https://git-scm.com/docs/git-fast-import#_input_format"""
    yield f"commit refs/heads/{branch}\nmark :{mark}\nauthor {_WHO}\ncommitter {_WHO}\n".encode()
    yield _data(f"{message.rstrip()}\n".encode("utf-8", "replace"))
    if mark > 1:
        yield b"from :%d\n" % (mark - 1)
    yield b"deleteall\n"
    for name, content in sorted(tree.items()):
        quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        yield f'M {content.mode} inline "'.encode() + os.fsencode(quoted) + b'"\n' + _data(content.data)


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


def _call(folder: Path, *words: str, stdin: bytes | None = None) -> Finished:
    """A git call that takes ``folder`` for its work tree, and no other folder, file or setting."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ |= call.FIXED
    environ |= {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent),
    }
    attributes = call.settings({"core.attributesFile": os.devnull})
    done = process.run(
        call.command(*attributes, *words), cwd=folder, env=environ, timeout_s=call.TIMEOUT_S, stdin=stdin
    )
    if done.code != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise GitError(said[0].removeprefix("error: ").removeprefix("fatal: "))
    return done
