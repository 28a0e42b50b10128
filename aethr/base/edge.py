"""Where errors and signals become lines on standard error and an exit code; the only place.

Core code raises and never prints. All three doors run their command through ``guarded``.
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

TYPE_CHECKING = False  # as type checkers know it: to import typing takes a tenth of `aethr version`
if TYPE_CHECKING:
    from typing import Literal, NoReturn, TextIO


LONGEST_LINE = 4000
"""In characters; long names of files fit."""


def guarded(command: Callable[[], int], *, verbose: bool = False) -> int:
    """Run ``command`` and give its exit code, or that of what it raised, said in plain lines."""
    _prepare_streams()
    _end_on_signals()
    end = secrecy.hide(os.environ)
    try:
        _stand_somewhere()
        code = command()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, Terminated) as stop:  # noqa: BLE001 - a bug becomes a line and a file
        return _fail(as_error(stop), verbose)
    finally:
        end()
    return code


def leave(code: int) -> NoReturn:
    """End the process with this code at once: what Python tears down at its end goes with the process.

    That takes as long as Python's start. It also waits for threads (of a call that was given up, of an import
    of LiteLLM), and can wait for ever for a lock that one holds when it is stopped.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def as_error(stop: BaseException) -> AethrError:
    """What ended a command or a run, as the error that is shown; what nobody foresaw is a bug.

    A signal names the files that an agent had changed; an ``OSError`` that nobody nearer knew what to do with
    is most often a closed output.
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
    # Python has no type of its own for it: https://github.com/python/cpython/issues/60207
    elif isinstance(stop, RuntimeError) and "start new thread" in str(stop):
        made = ProcessError("the system allows no more threads", "End other programs, or raise `ulimit -u`.")
    elif isinstance(stop, MemoryError):
        made = ProcessError("out of memory", "End other programs, or raise the limit of memory.")
    else:
        return _bug(stop)
    made.__cause__ = stop
    return made


def _bug(error: BaseException) -> UnexpectedError:
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
        "Please report it with that file; look through it first, it may quote your files.",
    )
    made.__cause__ = error
    return made


def _prepare_streams() -> None:
    """Streams that can be used; a character that a terminal lacks is shown escaped."""
    sys.stdin, sys.stdout, sys.stderr = (
        _usable(sys.stdin, "r"),
        _usable(sys.stdout, "w"),
        _usable(sys.stderr, "w"),
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _usable(stream: TextIO | None, mode: Literal["r", "w"]) -> TextIO:
    """A closed stream is nowhere; one without a buffer (``python -u``) gets one that is flushed at each line.

    Without a buffer it would be no error when the system takes only a part: on a full disk, or when the
    process is stopped meanwhile.
    """
    if stream is None:
        return os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.RawIOBase):
        return os.fdopen(stream.fileno(), mode, 1, encoding=stream.encoding, closefd=False)
    return stream


def _stand_somewhere() -> None:
    try:
        os.getcwd()  # noqa: PTH109 - `aethr version` has no other use for pathlib
    except FileNotFoundError as error:
        raise UsageError("this folder no longer exists", "Change to one that does.") from error


def _end_on_signals() -> None:
    """SIGTERM and a closed terminal end a run as Ctrl-C does: children ended, checkpoint written."""
    with contextlib.suppress(ValueError):  # not the main thread: then signals are not ours
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), _terminate)


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise Terminated


def _fail(error: AethrError, verbose: bool) -> int:
    from aethr.base import sanitize

    safe = sanitize.runner if os.environ.get("GITHUB_ACTIONS") == "true" else sanitize.terminal
    with contextlib.suppress(OSError, ValueError):
        for line in told(error, verbose=verbose):
            sys.stderr.write(safe(line) + "\n")
        sys.stderr.flush()
    _let_go_of_stdout()
    return error.exit_code


def told(error: AethrError, *, verbose: bool = False) -> Iterator[str]:
    """An error in lines: what is wrong (one, whatever it quotes), how to mend it, how to go on."""
    from aethr.base.sanitize import one_line

    yield str(error) if isinstance(error, ConfigError) else one_line(f"aethr: {error}", LONGEST_LINE)
    if error.fix:
        yield error.fix
    if error.resume:
        yield f"To resume from the last finished step:\n  {error.resume}"
    if verbose:
        import traceback

        yield "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def _let_go_of_stdout() -> None:
    """Whatever is still buffered for a closed or full output must not fail once more at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
