"""The only place where errors and signals become lines on standard error and an exit code.

Core code raises and never prints. Terminal, hook and Action run their command through ``guarded``.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator

from aethr.base import secrecy
from aethr.base.errors import (
    AethrError,
    ConfigError,
    DiskError,
    ExitCode,
    Interrupted,
    ProcessError,
    StoppedError,
    Terminated,
    UnexpectedError,
    UsageError,
)

TYPE_CHECKING = False  # type checkers know the name; importing typing takes a tenth of `aethr version`
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Literal, NoReturn, TextIO, TypeVar

    _Events = TypeVar("_Events", bound=Generator[Any, None, Any])


LONGEST_LINE = 4000
"""In characters; long file names fit."""


def guarded(command: Callable[[], int], *, verbose: bool = False) -> int:
    """Run ``command`` and return its exit code. What it raises is printed, and decides the exit code."""
    sys.stdin, sys.stdout, sys.stderr = (
        _usable(sys.stdin, "r"),
        _usable(sys.stdout, "w"),
        _usable(sys.stderr, "w"),
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # shows what the terminal cannot encode
    with contextlib.suppress(ValueError):  # raised outside of the main thread
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), _terminate)
    end = secrecy.hide(os.environ)
    try:
        try:
            os.getcwd()  # noqa: PTH109 - `aethr version` does not need pathlib
        except FileNotFoundError as error:
            raise UsageError("this folder no longer exists", "Change to one that does.") from error
        code = command()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, Terminated) as stop:  # noqa: BLE001 - a bug becomes a line and a file
        return _report(as_error(stop), verbose)
    finally:
        end()
    return code


@contextlib.contextmanager
def ending(events: _Events) -> Iterator[_Events]:
    """Close the generator at the end of the block, in which a signal is raised in the generator too.

    So a step ends by a signal that comes while its event is shown as by one during its own work, and adds the
    files that an agent has changed.
    """
    try:
        yield events
    except (KeyboardInterrupt, Terminated) as stop:
        events.throw(stop)
        raise
    finally:
        events.close()


def leave(code: int) -> NoReturn:
    """End the process at once, without Python's own teardown.

    Teardown takes as long as Python's start. It also waits for threads (of an abandoned call, of an import of
    LiteLLM), and may wait forever for a lock that a thread holds.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def as_error(stop: BaseException) -> AethrError:
    """What ended a command or a run, as the error to show. An exception that nobody foresaw is a bug.

    A signal names the files that an agent had changed. An ``OSError`` that arrives here is most often a
    closed output.
    """
    if isinstance(stop, AethrError):
        return stop
    if isinstance(stop, (KeyboardInterrupt, Terminated)):
        made: AethrError = (
            StoppedError("terminated", ExitCode.TERMINATED)
            if isinstance(stop, Terminated)
            else StoppedError("interrupted", ExitCode.INTERRUPTED)
        )
        made.blame(stop.changed_files if isinstance(stop, (Interrupted, Terminated)) else ())
    elif isinstance(stop, BrokenPipeError):
        made = DiskError("standard output was closed before the end")
    elif isinstance(stop, OSError):
        made = DiskError(f"{stop.filename or 'output'}: {stop.strerror or stop}")
    # Python has no type for this error: https://github.com/python/cpython/issues/60207
    elif isinstance(stop, RuntimeError) and "start new thread" in str(stop):
        made = ProcessError("the system allows no more threads", "End other programs, or raise `ulimit -u`.")
    elif isinstance(stop, MemoryError):
        made = ProcessError("out of memory", "End other programs, or raise the memory limit.")
    else:
        return _record_bug(stop)
    made.__cause__ = stop
    return made


def _record_bug(error: BaseException) -> UnexpectedError:
    """The error to show for a bug, with its traceback in a temporary file."""
    import tempfile
    import traceback

    from aethr.base.sanitize import redact

    text = redact("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    try:
        handle, path = tempfile.mkstemp(prefix="aethr-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        path = "nowhere, as no temporary file could be written"
    made = UnexpectedError(
        f"a bug in Aethr: {type(error).__name__} (the traceback is in {path})",
        "Please report it with that file. Read the file first: it may quote your files.",
    )
    made.__cause__ = error
    return made


def _usable(stream: TextIO | None, mode: Literal["r", "w"]) -> TextIO:
    """The null device for a closed stream, and a line buffer for one without a buffer (``python -u``).

    Without a buffer, Python does not raise if the system writes only a part of a text: on a full disk, or
    when the process is stopped meanwhile.
    """
    if stream is None:
        return os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.RawIOBase):
        return os.fdopen(stream.fileno(), mode, 1, encoding=stream.encoding, closefd=False)
    return stream


def _terminate(_number: int, _frame: object) -> NoReturn:
    """SIGTERM and a closed terminal end a run as Ctrl-C does: children ended, checkpoint written."""
    raise Terminated


def _report(error: AethrError, verbose: bool) -> int:
    from aethr.base import sanitize

    safe = sanitize.runner if os.environ.get("GITHUB_ACTIONS") == "true" else sanitize.terminal
    with contextlib.suppress(OSError, ValueError):
        for line in describe(error, verbose=verbose):
            sys.stderr.write(safe(line) + "\n")
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        # The output is closed or full: what is still buffered must not fail again at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return error.exit_code


def describe(error: AethrError, *, verbose: bool = False) -> Iterator[str]:
    """An error in lines: what is wrong (always one line), how to fix it, how to resume the run."""
    from aethr.base.sanitize import one_line

    yield str(error) if isinstance(error, ConfigError) else one_line(f"aethr: {error}", LONGEST_LINE)
    if error.fix:
        yield error.fix
    if error.resume:
        yield f"To resume from the last finished step:\n  {error.resume}"
    if verbose:
        import traceback

        yield "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
