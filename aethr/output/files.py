"""Reports as files: ``--report PATH``, its suffix the format. Without any, no format is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aethr.errors import DiskError, UsageError
from aethr.records import RunResult


def check(paths: Sequence[str]) -> None:
    """Refuse a report that could not be written, before anything is paid for. Raises ``UsageError``."""
    for name in paths:
        path = Path(name)
        _check_suffix(path)
        if path.is_dir() or not path.parent.is_dir():
            raise UsageError(
                f"--report {name}: not a file in a folder that exists", "Create the folder first."
            )


def _check_suffix(path: Path) -> None:
    from aethr.output.report import FORMATS

    if path.suffix not in FORMATS:
        from aethr.presets import suggest

        known = " ".join(FORMATS)
        raise UsageError(
            f"--report {path}: no format '{path.suffix}'{suggest(path.suffix, FORMATS)}",
            f"The suffix chooses the format: {known}.",
        )


def write(paths: Sequence[str], result: RunResult) -> None:
    """Write each report. Raises ``DiskError``."""
    for name in paths:
        _write(Path(name), result)


def _write(path: Path, result: RunResult) -> None:
    from aethr.output.report import FORMATS

    try:
        path.write_text(FORMATS[path.suffix].render(result), encoding="utf-8", newline="\n")
    except OSError as error:
        raise DiskError(
            f"{path}: cannot write the report: {error.strerror}", "The answer is above; nothing was lost."
        ) from error
