"""A running agent: its output by lines, its end with all that it has started, the lock on its work tree.

An agent's tool commands run in sessions of their own and survive their parent, so killing its process
group misses them. They are found by three signs: they descend from the agent; they carry a mark in
their environment; or, on Linux, they were orphaned and came to this process, which adopts orphans
while an agent runs (``PR_SET_CHILD_SUBREAPER``). Without /proc only the first sign is there.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from aethr.base import process
from aethr.base.errors import AgentError, DiskError, ProcessError

LINE_LIMIT = 16 << 20
"""Bytes; a longer line is left out whole."""

DRAIN_S = 1.0
"""Seconds in which what is still in the pipes is read after the program has ended."""

_PIPE_POLL_S = 0.1
_CHUNK = 1 << 16


class Line(NamedTuple):
    """One line without its newline; ``error`` is True for standard error."""

    text: bytes
    error: bool


@dataclass(slots=True)
class _Splitter:
    error: bool
    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that ``chunk`` completes; an empty chunk is the end and completes the last one."""
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            self._hold(piece)
            yield from self._flush()
        self._hold(rest)
        if not chunk and self.size:
            yield from self._flush()

    def _hold(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= LINE_LIMIT:
            self.parts.append(piece)

    def _flush(self) -> Iterator[Line]:
        if self.size <= LINE_LIMIT:
            yield Line(b"".join(self.parts).rstrip(b"\r"), self.error)
        self.parts, self.size = [], 0


def lines(child: subprocess.Popen[bytes], timeout_s: float, ended: Callable[[], object]) -> Iterator[Line]:
    """The lines of both outputs as they come, until both are closed or the program has ended.

    ``ended`` is called once the program itself has ended: orphans may hold its pipes open for ever, so
    reading goes on for ``DRAIN_S`` at most after it. Raises ``ProcessError`` after ``timeout_s`` seconds.
    """
    deadline, draining = time.monotonic() + timeout_s, False
    with selectors.DefaultSelector() as selector:
        for pipe, error in ((child.stdout, False), (child.stderr, True)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, _Splitter(error))
        while selector.get_map() or child.poll() is None:
            if (left := deadline - time.monotonic()) <= 0:
                if draining:
                    break
                raise ProcessError(f"no end after {timeout_s:g} s")
            yield from _ready(child, selector, min(left, _PIPE_POLL_S))
            if not draining and child.poll() is not None:
                ended()
                deadline, draining = time.monotonic() + DRAIN_S, True
        if not draining:
            ended()
        for key in list(selector.get_map().values()):
            yield from key.data.feed(b"")


def _ready(child: subprocess.Popen[bytes], selector: selectors.BaseSelector, wait_s: float) -> Iterator[Line]:
    """Read once from each pipe that has something; wait ``wait_s`` at most for that, or for the end."""
    if not selector.get_map():
        with suppress(subprocess.TimeoutExpired):
            child.wait(wait_s)
    for key, _ in selector.select(wait_s) if selector.get_map() else ():
        chunk = os.read(key.fd, _CHUNK)
        yield from key.data.feed(chunk)
        if not chunk:
            selector.unregister(key.fileobj)


MARK = "AGENT_RUN_ID"
"""The environment variable by which everything below an agent is recognised."""

GRACE_S = 1.0
"""Seconds between asking the programs of a tree to end and killing them."""

KILL_S = 3.0
"""Seconds to wait for killed programs to be gone: one that sleeps inside the kernel may not go."""

_POLL_S = 0.02
_PS_S = 10.0
_PROC = Path("/proc")
_SET_CHILD_SUBREAPER, _GET_CHILD_SUBREAPER = 36, 37


class Entry(NamedTuple):
    """One running program; ``zombie`` when it has ended and its parent has not yet asked how."""

    pid: int
    parent: int
    zombie: bool = False


class Tree(NamedTuple):
    """A started program with its descendants.

    ``known`` are this process's children from before: adopted orphans are those that are not in it.
    None where this system has no adoption.
    """

    child: subprocess.Popen[bytes]
    mark: bytes
    known: frozenset[int] | None

    @property
    def thorough(self) -> bool:
        """Whether programs that left the tree are found too; False on a system without /proc."""
        return self.known is not None

    def end(self) -> int:
        """Ask every program of the tree to end, kill what has not; give how many there were.

        An interruption while waiting does not leave them running.
        """
        asked: set[int] = set()
        deadline = time.monotonic() + GRACE_S
        try:
            while (found := self._found()) and time.monotonic() < deadline:
                # A program may have started another one just before it was asked.
                left = {entry.pid for entry in found if not entry.zombie}
                _signal(left - asked, signal.SIGTERM)
                asked |= left
                time.sleep(_POLL_S)
        finally:
            deadline = time.monotonic() + KILL_S
            while (found := self._found()) and time.monotonic() < deadline:
                _signal({entry.pid for entry in found if not entry.zombie}, signal.SIGKILL)
                time.sleep(_POLL_S)
        return len(asked)

    def _found(self) -> list[Entry]:
        """The programs of the tree, without those that have ended and could be reaped here."""
        self.child.poll()
        table = _table()
        own = {entry.pid for entry in table if self._is_seed(entry)}
        grown = True
        while grown:
            below = {entry.pid for entry in table if entry.parent in own} - own
            own |= below
            grown = bool(below)
        return [entry for entry in table if entry.pid in own and not self._reaped(entry)]

    def _is_seed(self, entry: Entry) -> bool:
        if entry.pid == self.child.pid:
            return self.child.returncode is None
        return self._adopted(entry) or (self.thorough and _marked(entry.pid, self.mark))

    def _adopted(self, entry: Entry) -> bool:
        if self.known is None or entry.pid == self.child.pid:
            return False
        return entry.parent == os.getpid() and entry.pid not in self.known

    def _reaped(self, entry: Entry) -> bool:
        """Reap an orphan that has ended; one of another parent is that parent's until it ends too."""
        if not entry.zombie or not self._adopted(entry):
            return False
        with suppress(ChildProcessError):
            os.waitpid(entry.pid, os.WNOHANG)
        return True


@contextmanager
def running(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: IO[bytes]) -> Iterator[Tree]:
    """Run ``argv``, both outputs pipes; leaving the block ends it and all that it has started.

    Nothing else in this process may start a child inside the block: it would be taken for an orphan
    of this tree. Raises ``ProcessError`` when it cannot start.
    """
    mark = uuid.uuid4().hex
    with _adopting() as adopts:
        known = frozenset(e.pid for e in _table() if e.parent == os.getpid()) if adopts else None
        with process.defer_signals() as deliver:
            child = process.start(argv, cwd, {**env, MARK: mark}, stdin)
            tree = Tree(child, f"{MARK}={mark}".encode(), known)
            try:
                deliver()
                yield tree
            finally:
                try:
                    tree.end()
                finally:
                    _close(child)


def _signal(pids: Collection[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _close(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


@contextmanager
def _adopting() -> Iterator[bool]:
    """Let orphans of the block come to this process; False where the system cannot."""
    if not sys.platform.startswith("linux") or not (_PROC / "self" / "stat").exists():
        yield False
        return
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    before = ctypes.c_int()
    prctl(_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield True
    finally:
        prctl(_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def _table() -> list[Entry]:
    return list(_from_proc()) if (_PROC / "self" / "stat").exists() else from_ps()


def _from_proc() -> Iterator[Entry]:
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError, ValueError):
            stat = (folder / "stat").read_bytes()
            # The name in parentheses may hold anything, a parenthesis too.
            state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
            yield Entry(int(folder.name), int(parent), state in (b"Z", b"X"))


def from_ps() -> list[Entry]:
    """The same table from ``ps``, for systems without /proc; empty where that fails too."""
    try:
        ps = process.run(
            ["ps", "-A", "-o", "pid=,ppid=,stat="],
            cwd=Path("/"),
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            timeout_s=_PS_S,
        )
    except ProcessError:
        return []
    rows = (line.split() for line in ps.stdout.splitlines())
    return [Entry(int(row[0]), int(row[1]), row[2].startswith(b"Z")) for row in rows if len(row) >= 3]


def _marked(pid: int, mark: bytes) -> bool:
    try:
        return mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


@contextmanager
def exclusive(top: Path) -> Iterator[None]:
    """Hold the lock of a work tree; the system frees it also when this process is killed.

    Raises ``AgentError``, which names the other process, and ``DiskError``. On a system without
    ``flock`` there is no lock.
    """
    lock = _lock(top)
    if lock is None:
        yield
        return
    held, path = lock
    try:
        os.truncate(held, 0)
        os.write(held, str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(held)


def _lock(top: Path) -> tuple[int, Path] | None:
    """The locked file, open, and its path; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    path = _path(top)
    while True:
        held = _open(path)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(held, 64).decode("ascii", "replace").strip()
            os.close(held)
            raise AgentError(
                f"{top}: another agent step is at work in this tree (process {owner or 'unknown'})",
                "Wait for it to end, or work in another clone or `git worktree`.",
            ) from error
        if _is_current(held, path):
            return held, path
        os.close(held)  # Its last holder removed the file between our two calls.


def _path(top: Path) -> Path:
    key = hashlib.sha256(os.fsencode(top.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"aethr-agent-{os.getuid()}-{key}.lock")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DiskError(
            f"{path}: cannot lock the work tree: {error.strerror or error}",
            "Remove that file, or name another folder in TMPDIR.",
        ) from error


def _is_current(held: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(held), path.lstat())
    return False
