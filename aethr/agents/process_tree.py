"""A running agent: its lines of output, how it is ended with all that it started, the lock on its work tree.

An agent's tool commands run in sessions of their own and survive their parent, so killing its process
group misses them. They are found by three signs: they descend from the agent; they carry a mark in
their environment; or, on Linux, they were orphaned and this process adopted them, as it does while
an agent runs (``PR_SET_CHILD_SUBREAPER``, https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html).
Without /proc there is only the first sign.
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
"""In bytes; a longer line is dropped."""

DRAIN_S = 1.0
"""Seconds to read what is still in the pipes after the program has ended."""

_PIPE_POLL_S = 0.1
_CHUNK = 1 << 16


class OutputLine(NamedTuple):
    """One line without its newline; ``error`` is True for standard error."""

    text: bytes
    error: bool


@dataclass(slots=True)
class _Splitter:
    error: bool
    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def feed(self, chunk: bytes) -> Iterator[OutputLine]:
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

    def _flush(self) -> Iterator[OutputLine]:
        if self.size <= LINE_LIMIT:
            yield OutputLine(b"".join(self.parts).rstrip(b"\r"), self.error)
        self.parts, self.size = [], 0


def lines(
    child: subprocess.Popen[bytes],
    timeout_s: float,
    on_end: Callable[[], object],
    is_over: Callable[[], bool],
    settle_s: float,
) -> Iterator[OutputLine]:
    """The lines of both outputs as they come, until both are closed or the program has ended.

    ``on_end`` is called once: when the program itself has ended, or if ``is_over`` says that it has nothing
    left to do, after ``settle_s`` seconds of silence or at the deadline. Orphans may hold its pipes open for
    ever, so they are read for at most ``DRAIN_S`` after that. Raises ``ProcessError`` after ``timeout_s``
    seconds.
    """
    heard = time.monotonic()
    deadline, draining = heard + timeout_s, False
    with selectors.DefaultSelector() as selector:
        for pipe, error in ((child.stdout, False), (child.stderr, True)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, _Splitter(error))
        while selector.get_map() or child.poll() is None:
            over = not draining and is_over()
            limit = min(deadline, heard + settle_s) if over else deadline
            if (left := limit - time.monotonic()) <= 0:
                if draining:
                    break
                if not over:
                    raise ProcessError(f"no end after {timeout_s:g} s")
            else:
                for line in _read_ready(child, selector, min(left, _PIPE_POLL_S)):
                    heard = time.monotonic()
                    yield line
            if not draining and (left <= 0 or child.poll() is not None):
                on_end()
                deadline, draining = time.monotonic() + DRAIN_S, True
        if not draining:
            on_end()
        for key in list(selector.get_map().values()):
            yield from key.data.feed(b"")


def _read_ready(
    child: subprocess.Popen[bytes], selector: selectors.BaseSelector, wait_s: float
) -> Iterator[OutputLine]:
    """Read once from each pipe that has output. Wait at most ``wait_s`` seconds for output or the end."""
    if not selector.get_map():
        with suppress(subprocess.TimeoutExpired):
            child.wait(wait_s)
    for key, _ in selector.select(wait_s) if selector.get_map() else ():
        chunk = os.read(key.fd, _CHUNK)
        yield from key.data.feed(chunk)
        if not chunk:
            selector.unregister(key.fileobj)


MARK = "AGENT_RUN_ID"
"""The environment variable that marks everything an agent starts."""

GRACE_S = 1.0
"""Seconds between SIGTERM and SIGKILL to the programs of a tree."""

KILL_S = 3.0
"""Seconds to wait for killed programs: one that sleeps inside the kernel may stay."""

_POLL_S = 0.02
_PS_S = 10.0
_PROC = Path("/proc")
_SET_CHILD_SUBREAPER, _GET_CHILD_SUBREAPER = 36, 37


class Process(NamedTuple):
    """One running program; ``zombie`` if it has ended and its parent has not yet reaped it."""

    pid: int
    parent: int
    zombie: bool = False


class ProcessTree(NamedTuple):
    """A started program with its descendants.

    ``known`` are the children that this process had before: its other children are adopted orphans.
    None if this system cannot adopt.
    """

    child: subprocess.Popen[bytes]
    mark: bytes
    known: frozenset[int] | None

    @property
    def thorough(self) -> bool:
        """Whether programs that left the tree are found too. Not on a system without /proc."""
        return self.known is not None

    def end(self) -> int:
        """Ask every program of the tree to end, then kill those still running. Returns how many there were.

        An interruption during the wait kills them at once.
        """
        asked: set[int] = set()
        deadline = time.monotonic() + GRACE_S
        try:
            while (found := self._found()) and time.monotonic() < deadline:
                # A program may have started another one just before it was asked.
                left = {each.pid for each in found if not each.zombie}
                _signal(left - asked, signal.SIGTERM)
                asked |= left
                time.sleep(_POLL_S)
        finally:
            deadline = time.monotonic() + KILL_S
            while (found := self._found()) and time.monotonic() < deadline:
                _signal({each.pid for each in found if not each.zombie}, signal.SIGKILL)
                time.sleep(_POLL_S)
        return len(asked)

    def _found(self) -> list[Process]:
        """The programs of the tree; orphans that have ended are reaped, and not among them."""
        self.child.poll()
        table = _list_programs()
        own = {each.pid for each in table if self._is_seed(each)}
        grown = True
        while grown:
            below = {each.pid for each in table if each.parent in own} - own
            own |= below
            grown = bool(below)
        found = [each for each in table if each.pid in own]
        # A zombie of another parent is that parent's until it ends too.
        ended = [each for each in found if each.zombie and self._is_adopted(each)]
        for each in ended:
            with suppress(ChildProcessError):
                os.waitpid(each.pid, os.WNOHANG)
        return [each for each in found if each not in ended]

    def _is_seed(self, candidate: Process) -> bool:
        if candidate.pid == self.child.pid:
            return self.child.returncode is None
        if not self.thorough or self._is_adopted(candidate):
            return self.thorough
        with suppress(OSError):
            return self.mark in (_PROC / str(candidate.pid) / "environ").read_bytes().split(b"\0")
        return False

    def _is_adopted(self, candidate: Process) -> bool:
        if self.known is None or candidate.pid == self.child.pid:
            return False
        return candidate.parent == os.getpid() and candidate.pid not in self.known


@contextmanager
def running(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: IO[bytes]
) -> Iterator[ProcessTree]:
    """Run ``argv`` with a pipe for each output. The end of the block ends it and all that it has started.

    Nothing else in this process may start a child inside the block: it would count as an orphan of this
    tree. Raises ``ProcessError`` if it cannot start.
    """
    mark = uuid.uuid4().hex
    with _adopt_orphans() as adopts:
        own = frozenset(each.pid for each in _list_programs() if each.parent == os.getpid())
        known = own if adopts else None
        with process.defer_signals() as deliver:
            child = process.start(argv, cwd, {**env, MARK: mark}, stdin)
            tree = ProcessTree(child, f"{MARK}={mark}".encode(), known)
            try:
                deliver()
                yield tree
            finally:
                try:
                    tree.end()
                finally:
                    for pipe in filter(None, (child.stdout, child.stderr)):
                        pipe.close()


def _signal(pids: Collection[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


@contextmanager
def _adopt_orphans() -> Iterator[bool]:
    """Orphans of the block become children of this process; False if the system cannot do that."""
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


def _list_programs() -> list[Process]:
    if not (_PROC / "self" / "stat").exists():
        return list_with_ps()
    found = []
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError):
            stat = (folder / "stat").read_bytes()
            # The name in parentheses may hold anything, a parenthesis too.
            state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
            found.append(Process(int(folder.name), int(parent), state in (b"Z", b"X")))
    return found


def list_with_ps() -> list[Process]:
    """All running programs as ``ps`` lists them, for systems without /proc; empty if that fails too."""
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
    return [Process(int(row[0]), int(row[1]), row[2].startswith(b"Z")) for row in rows if len(row) >= 3]


@contextmanager
def exclusive(top: Path) -> Iterator[None]:
    """Hold the lock of a work tree; the system frees it even if this process is killed.

    Raises ``AgentError``, which names the other process, and ``DiskError``. A system without ``flock`` has
    no lock.
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
    """The locked file, open, and its path; None if the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    key = hashlib.sha256(os.fsencode(top.resolve())).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"aethr-agent-{os.getuid()}-{key}.lock")
    while True:
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DiskError(
                f"{path}: cannot lock the work tree: {error.strerror or error}",
                "Remove that file, or name another folder in TMPDIR.",
            ) from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(held, 64).decode("ascii", "replace").strip()
            os.close(held)
            raise AgentError(
                f"{top}: another agent step is running in this tree (process {owner or 'unknown'})",
                "Wait for it to end, or work in another clone or `git worktree`.",
            ) from error
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), path.lstat()):
                return held, path
        os.close(held)  # Its last holder removed the file between our two calls.
