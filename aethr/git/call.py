"""How Aethr calls git: one place that makes every call safe by construction.

A repository may be hostile, so nothing that it configures may run or use the network: no pager, hook,
monitor, fetch or bare repository inside of the tree. No call prompts or takes a lock, and messages are in
English.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aethr.base import process
from aethr.base.errors import GitError, GitMissingError, ProcessError
from aethr.base.process import Finished, Streaming
from aethr.base.sanitize import reveal_name

TIMEOUT_S = 60.0
"""Deadline of a short git call, in seconds."""

DIFF_TIMEOUT_S = 600.0
"""Deadline of a call that reads whole files, in seconds."""

_SAFE = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "safe.bareRepository": "explicit",
    "protocol.allow": "never",
    "core.quotePath": "true",
    "diff.orderFile": os.devnull,
}


_NOT_FETCHED = (b"from promisor remote", b"lazy fetching disabled")
"""git's words (2.39, and since 2.45) when it would have to fetch an object, which is not allowed here."""


def settings(values: Mapping[str, str]) -> tuple[str, ...]:
    """Options before git's subcommand that set these configuration variables for one call."""
    return tuple(word for name, value in values.items() for word in ("-c", f"{name}={value}"))


def checked(root: Path, *args: str, stdin: bytes | None = None, index: Path | None = None) -> bytes:
    """Standard output of a git call in ``root``. Raises ``GitError`` when it fails."""
    done = run(root, *args, stdin=stdin, index=index)
    if done.code != 0:
        raise failure(done)
    return done.stdout


def run(root: Path, *args: str, stdin: bytes | None = None, index: Path | None = None) -> Finished:
    """A git call in ``root``, whatever its exit code. Raises ``GitMissingError``, ``ProcessError``."""
    env = environment(root, other_index=index)
    with _explain_missing_git():
        return process.run(command(*args), cwd=root, env=env, timeout_s=TIMEOUT_S, stdin=stdin)


def streamed(root: Path, *args: str, index: Path | None = None) -> Iterator[bytes]:
    """Standard output of a git call in chunks. Raises ``GitError`` after the last one if it failed.

    ``index`` replaces the index of the repository.
    """
    with _stream(root, *args, index=index) as child:
        yield from child.chunks()
        _check(child)


@contextmanager
def background(root: Path, *args: str) -> Iterator[Callable[[], bytes]]:
    """A git call in parallel with the block; the block gets a function that waits for the output.

    The function raises ``GitError`` if the call failed.
    """
    with _stream(root, *args) as child:

        def output() -> bytes:
            whole = b"".join(child.chunks())
            _check(child)
            return whole

        yield output


@contextmanager
def _stream(root: Path, *args: str, index: Path | None = None) -> Iterator[Streaming]:
    env = environment(root, other_index=index)
    with (
        _explain_missing_git(),
        process.stream(command(*args), cwd=root, env=env, timeout_s=DIFF_TIMEOUT_S) as child,
    ):
        yield child


@contextmanager
def _explain_missing_git() -> Iterator[None]:
    """Raise ``GitMissingError`` if a program could not start because git is not installed."""
    try:
        yield
    except ProcessError as error:
        if shutil.which("git") is None:
            raise GitMissingError("git: not found", "Install git, or put it on PATH.") from error
        raise


def _check(child: Streaming) -> None:
    done = child.finish()
    if done.code != 0:
        raise failure(done)


def run_online(
    root: Path,
    protocol: str,
    configuration: Sequence[tuple[str, str]],
    *args: str,
    stdin: bytes | None = None,
) -> Finished:
    """A git call that may use the network, by this one protocol, without a prompt or a credential helper.

    ``configuration`` goes through the environment, where process lists do not show it, after the operator's
    own: git takes the last value.
    """
    env = dict(environment(root))
    before = env.get("GIT_CONFIG_COUNT", "")
    first = int(before) if re.fullmatch(r"[0-9]{1,6}", before) else 0
    for number, (name, value) in enumerate(configuration, start=first):
        env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    env |= {"GIT_CONFIG_COUNT": str(first + len(configuration)), "GIT_ALLOW_PROTOCOL": protocol}
    argv = command(*settings({"credential.helper": "", "core.askPass": ""}), *args)
    return process.run(argv, cwd=root, env=env, timeout_s=DIFF_TIMEOUT_S, stdin=stdin)


def command(*args: str, program: str = "git") -> tuple[str, ...]:
    """The command line of a git call, with the settings that keep it safe in a hostile repository."""
    return (program, "--no-pager", "--no-optional-locks", *settings(_SAFE), *args)


def environment(
    root: Path, environ: Mapping[str, str] = os.environ, other_index: Path | None = None
) -> Mapping[str, str]:
    """The environment of a git call in ``root``; of the operator's ``GIT_*`` it keeps ``OPERATORS``.

    Two others stay if they are about the repository of ``root``. A hook of ``git commit -a`` finds the
    change only in ``GIT_INDEX_FILE``. ``GIT_DIR`` together with ``GIT_WORK_TREE`` names a repository outside
    of the folder that it tracks (see ``_named``). ``GIT_DIR`` alone, as git sets it for hooks, is dropped:
    git finds the same repository from the folder, without taking that folder for the top of the work tree.
    """
    found = {
        name: value
        for name, value in environ.items()
        if not name.startswith("GIT_") or name in OPERATORS or name.startswith(_OPERATORS_PREFIXES)
    }
    named = _named(root, environ)
    if named is not None:
        found |= {"GIT_DIR": str(named.git_folder), "GIT_WORK_TREE": str(named.top)}
    index = other_index or _named_index(root, environ)
    if index is not None:
        found["GIT_INDEX_FILE"] = str(index)
    return {**found, **FIXED}


FIXED: Mapping[str, str] = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    # Review the objects that the ids name, not replacements that the repository configures:
    # https://git-scm.com/docs/git-replace, https://git-scm.com/docs/gitglossary#def_grafts
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": os.devnull,
}
"""In every git call, whatever the operator's environment says."""

OPERATORS = frozenset(
    {
        # How containers set safe.directory: https://github.com/pre-commit/pre-commit/pull/2136
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",  # `git -c name=value commit` passes it to its hooks
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_ATTR_NOSYSTEM",
        "GIT_EXEC_PATH",  # https://github.com/pre-commit/pre-commit/pull/944
        "GIT_SSH",  # https://github.com/pre-commit/pre-commit/pull/671
        "GIT_SSH_COMMAND",  # https://github.com/pre-commit/pre-commit/issues/947
        "GIT_SSH_VARIANT",
        "GIT_ASKPASS",  # https://github.com/pre-commit/pre-commit/pull/2564
        "GIT_HTTP_PROXY_AUTHMETHOD",  # https://github.com/pre-commit/pre-commit/issues/2271
        "GIT_HTTP_USER_AGENT",
    }
)
# GIT_SSL_CAINFO: https://github.com/pre-commit/pre-commit/issues/1253
_OPERATORS_PREFIXES = ("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_", "GIT_SSL_", "GIT_PROXY_SSL_")
"""With ``OPERATORS``: how git is set up on this machine. Pre-commit keeps most of them (``no_git_env``).

All others would change which repository git reads, what it compares with what, or what it prints.
"""


class Repository(NamedTuple):
    """The top of a work tree, and the folder where its repository keeps the index."""

    top: Path
    git_folder: Path


def ignores_index(root: Path) -> bool:
    """Whether the environment names an index that is ignored because it is outside of this repository."""
    return bool(os.environ.get("GIT_INDEX_FILE")) and _named_index(root, os.environ) is None


def repository(root: Path, environ: Mapping[str, str] = os.environ) -> Repository | None:
    """The repository of this folder, without a git call: from the environment, or the nearest ``.git``."""
    return _named(root, environ) or _nearest(root)


def _named_index(root: Path, environ: Mapping[str, str]) -> Path | None:
    """The index that the environment names, if it is in this repository.

    As in git, a relative name starts at the top of the work tree.
    """
    name = environ.get("GIT_INDEX_FILE")
    found = repository(root, environ) if name else None
    if not name or found is None:
        return None
    index = Path(os.path.realpath(found.top / name))
    return index if index.is_relative_to(found.git_folder) else None


def _named(root: Path, environ: Mapping[str, str]) -> Repository | None:
    """The repository of ``GIT_DIR`` and ``GIT_WORK_TREE`` together, if ``root`` is in that work tree.

    This is how people track their home folder (``git --git-dir=~/.dotfiles --work-tree=~``); git passes both
    to its hooks. A repository below that work tree, such as a submodule, is separate.
    """
    folder, tree = environ.get("GIT_DIR"), environ.get("GIT_WORK_TREE")
    if not folder or not tree:
        return None
    # With os.path: pathlib raises for a loop of links and for names that are too long.
    git_folder, top = Path(os.path.realpath(folder)), Path(os.path.realpath(tree))
    if not os.path.isdir(git_folder) or not root.resolve().is_relative_to(top):  # noqa: PTH112
        return None
    nearest = _nearest(root)
    if nearest is not None and nearest.top != top and nearest.top.is_relative_to(top):
        return None
    return Repository(top, git_folder)


def _nearest(root: Path) -> Repository | None:
    start = root.resolve()
    found = next((each / ".git" for each in (start, *start.parents) if (each / ".git").exists()), None)
    if found is None:
        return None
    if found.is_dir():
        return Repository(found.parent, found.resolve())
    # In a submodule or a linked work tree `.git` is a file: https://git-scm.com/docs/gitrepository-layout
    content = found.read_bytes()[: 1 << 13] if found.is_file() else b""
    target = os.fsdecode(content.removeprefix(b"gitdir: ").rstrip(b"\r\n"))
    return Repository(found.parent, (found.parent / target).resolve())


def not_fetched(done: Finished) -> bool:
    """Whether the call failed for an object that this partial clone lacks."""
    return any(word in done.stderr for word in _NOT_FETCHED)


def failure(done: Finished) -> GitError:
    """The error for an unexpected failure: git's own words, on one line."""
    lines = done.stderr.splitlines() or [b"no message"]
    if not_fetched(done):
        return GitError(
            "this is a partial clone, and objects that the run needs are not in it",
            "Run `git fetch --refetch --no-filter`, which fetches them.",
        )
    said = next((line for line in lines if line.startswith(b"fatal: ")), lines[0])
    return GitError(
        f"git failed (code {done.code}): {reveal_name(said[:500])}", "Run `git status` to see it."
    )
