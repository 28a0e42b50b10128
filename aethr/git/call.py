"""How Aethr calls git: one place that makes every call safe by construction.

A repository may be hostile, so nothing it configures may run or reach out: no pager, hook, monitor,
fetch or bare repository inside of the tree. Nothing asks, nothing takes a lock, messages are English.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from aethr import process
from aethr.errors import GitError, GitMissingError, ProcessError
from aethr.invisible import reveal_name
from aethr.process import Finished, Streaming

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
"""What git says (2.39, and since 2.45) where it would have to fetch an object, which it may not do here."""


def settings(values: Mapping[str, str]) -> tuple[str, ...]:
    """Options, to stand before git's subcommand, that set these configuration variables for one call."""
    return tuple(word for name, value in values.items() for word in ("-c", f"{name}={value}"))


def checked(root: Path, *args: str, stdin: bytes | None = None, index: Path | None = None) -> bytes:
    """Standard output of a git call in ``root``. Raises ``GitError`` when it fails."""
    done = run(root, *args, stdin=stdin, index=index)
    if done.code != 0:
        raise failed(done)
    return done.stdout


def run(root: Path, *args: str, stdin: bytes | None = None, index: Path | None = None) -> Finished:
    """A git call in ``root``, whatever its exit code. Raises ``GitMissingError``, ``ProcessError``."""
    env = _environment(root, index)
    with _missed():
        return process.run(_argv(*args), cwd=root, env=env, timeout_s=TIMEOUT_S, stdin=stdin)


def streamed(root: Path, *args: str, index: Path | None = None) -> Iterator[bytes]:
    """Standard output of a git call in chunks. Raises ``GitError`` after the last one when it failed.

    ``index`` is another index than that of the repository.
    """
    with _stream(root, *args, index=index) as child:
        yield from child.chunks()
        _check(child)


@contextmanager
def begun(root: Path, *args: str) -> Iterator[Callable[[], bytes]]:
    """A git call that runs beside the block; the block gets a function that waits for its output.

    That raises ``GitError`` when the call failed.
    """
    with _stream(root, *args) as child:

        def output() -> bytes:
            whole = b"".join(child.chunks())
            _check(child)
            return whole

        yield output


@contextmanager
def _stream(root: Path, *args: str, index: Path | None = None) -> Iterator[Streaming]:
    env = _environment(root, index)
    with (
        _missed(),
        process.stream(_argv(*args), cwd=root, env=env, timeout_s=DIFF_TIMEOUT_S) as child,
    ):
        yield child


@contextmanager
def _missed() -> Iterator[None]:
    """A program that cannot be started may be one that is not there: that is another error."""
    try:
        yield
    except ProcessError as error:
        if shutil.which("git") is None:
            raise GitMissingError("git: not found", "Install git, or put it on PATH.") from error
        raise


def _check(child: Streaming) -> None:
    done = child.finish()
    if done.code != 0:
        raise failed(done)


def reaching_out(
    root: Path,
    protocol: str,
    configuration: Sequence[tuple[str, str]],
    *args: str,
    stdin: bytes | None = None,
) -> Finished:
    """A git call that may reach out, by this one protocol and without asking or starting a helper.

    ``configuration`` goes through the environment, where no process list shows it.
    """
    names = {f"GIT_CONFIG_KEY_{n}": name for n, (name, _) in enumerate(configuration)}
    values = {f"GIT_CONFIG_VALUE_{n}": value for n, (_, value) in enumerate(configuration)}
    count = {"GIT_CONFIG_COUNT": str(len(configuration)), "GIT_ALLOW_PROTOCOL": protocol}
    argv = _argv(*settings({"credential.helper": "", "core.askPass": ""}), *args)
    env = {**_environment(root), **names, **values, **count}
    return process.run(argv, cwd=root, env=env, timeout_s=DIFF_TIMEOUT_S, stdin=stdin)


def _argv(*args: str) -> tuple[str, ...]:
    return ("git", "--no-pager", "--no-optional-locks", *settings(_SAFE), *args)


def _environment(root: Path, other_index: Path | None = None) -> Mapping[str, str]:
    """The operator's environment without ``GIT_*``, which would change what git reads, runs and prints.

    One stays: a hook of ``git commit -a`` has the change only in ``GIT_INDEX_FILE``. ``GIT_DIR`` and its
    kin are dropped even there: git finds the same repository again from the folder, and cannot be sent
    to another one.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    index = other_index or _named_index(root)
    if index is not None:
        kept["GIT_INDEX_FILE"] = str(index)
    return {
        **kept,
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
    }


def ignores_index(root: Path) -> bool:
    """Whether the environment names an index that is not read, because it lies outside of this repository."""
    return bool(os.environ.get("GIT_INDEX_FILE")) and _named_index(root) is None


def git_folder(root: Path) -> Path | None:
    """Where the repository of this folder keeps its index: what the nearest ``.git`` is or names."""
    found = _nearest(root)
    return None if found is None else _target(found)


def _named_index(root: Path) -> Path | None:
    """The index that the environment names, if it lies in this repository.

    As in git, a relative name begins at the top of the work tree.
    """
    named = os.environ.get("GIT_INDEX_FILE")
    found = _nearest(root) if named else None
    if not named or found is None:
        return None
    index = (found.parent / named).resolve()
    return index if index.is_relative_to(_target(found)) else None


def _nearest(root: Path) -> Path | None:
    start = root.resolve()
    return next((each / ".git" for each in (start, *start.parents) if (each / ".git").exists()), None)


def _target(found: Path) -> Path:
    """The folder that a ``.git`` is, or that it names where it is a file."""
    if found.is_dir():
        return found.resolve()
    named = (
        found.read_bytes()[: 1 << 13].removeprefix(b"gitdir: ").rstrip(b"\r\n") if found.is_file() else b""
    )
    return (found.parent / os.fsdecode(named)).resolve()


def not_fetched(done: Finished) -> bool:
    """Whether git would have had to fetch an object of a partial clone."""
    return any(word in done.stderr for word in _NOT_FETCHED)


def failed(done: Finished) -> GitError:
    """What to raise for a call that should not have failed: git's own words, on one line."""
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
