"""Every way a run can fail, as one tree of errors. Each error has its exit code.

Core code raises; ``edge.guarded`` is the only place that catches, and turns an error into a line on standard
error and an exit code. ``str(error)`` is that line: what is wrong, and where. ``error.fix`` is one sentence
on how to fix it, or an empty string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of ``aethr``, the same in terminal, hook and Action."""

    OK = 0
    GATE = 1
    USAGE = 2
    WORLD = 3
    NOT_REVIEWED = 4
    BUDGET = 5
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "completed",
    ExitCode.GATE: "the gate closed",
    ExitCode.USAGE: "wrong usage or configuration; nothing was called",
    ExitCode.WORLD: "a model, agent, git, network or disk failed",
    ExitCode.NOT_REVIEWED: "not reviewed",
    ExitCode.BUDGET: "over budget",
    ExitCode.BUG: "a bug in Aethr",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}


class AethrError(Exception):
    """An expected failure. ``fix`` is one sentence that says how to fix it.

    ``resume`` is the command that resumes from the checkpoint, if the run had begun. ``changed_files`` are
    the files that an agent had changed before it failed.
    """

    exit_code: ExitCode = ExitCode.WORLD
    resume: str = ""
    changed_files: tuple[str, ...] = ()

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    def redact(self, redacted: Callable[[str], str]) -> None:
        """Replace the values of keys in its texts, before these are escaped for any output."""
        self.args, self.fix = (redacted(str(self)),), redacted(self.fix)

    def blame(self, files: tuple[str, ...]) -> None:
        """Add the files that an agent had changed, if any, to the message."""
        self.changed_files = files
        if files:
            from aethr.base.words import capped  # only needed for an error

            self.args = (f"{self}; files changed before it failed: {capped(files)}",)


class UsageError(AethrError):
    """The command line, the environment or a checkpoint does not fit; nothing was called."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """One or more mistakes in a workflow file.

    ``mistakes`` are complete texts to print: ``file:line:column: message``, the line itself and a caret.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class MissingKeyError(UsageError):
    """The key of a live model's provider is not set. Exit code 4 if a review is required."""


class GitError(AethrError):
    """git is missing, refused, or failed."""


class GitMissingError(GitError):
    """There is no git on this machine."""


class ProcessError(AethrError):
    """A child process could not be started, ran too long or failed."""


class ModelError(AethrError):
    """A model call failed after all retries: the provider, the network, or an unusable answer."""


class AgentError(AethrError):
    """An agent (an external coding tool) failed, was refused a permission or ran too long."""


class DiskError(AethrError):
    """A checkpoint, a report or another file could not be written."""


class NotReviewedError(AethrError):
    """A review was required and cannot take place; nothing may be reported as a pass."""

    exit_code = ExitCode.NOT_REVIEWED


class BudgetError(AethrError):
    """The next call could exceed ``--max-cost`` or ``--max-tokens`` and was not made, or the last one did."""

    exit_code = ExitCode.BUDGET


class StoppedError(AethrError):
    """A signal ended the run: 130 for SIGINT, 143 for SIGTERM and SIGHUP."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class UnexpectedError(AethrError):
    """A bug in Aethr; the cause is chained and its traceback is in a file."""

    exit_code = ExitCode.BUG


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. Like KeyboardInterrupt not an ``Exception``, so no handler swallows it.

    ``changed_files`` are the files that an agent had changed.
    """

    changed_files: tuple[str, ...] = ()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while an agent ran; ``changed_files`` are the files that it had changed."""

    def __init__(self, changed_files: tuple[str, ...]) -> None:
        super().__init__()
        self.changed_files = changed_files
