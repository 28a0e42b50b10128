"""Reports as files: ``--report PATH``, its suffix the format. Without any, no format is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from aethr.errors import DiskError, UsageError, suggest
from aethr.records import RunResult


def check(paths: Sequence[str]) -> None:
    """Refuse a report that could not be written, before anything is paid for. Raises ``UsageError``."""
    for name in paths:
        path = Path(name)
        _check_suffix(path)
        # With os.path: pathlib raises where one may not look.
        if os.path.isdir(path) or not os.path.isdir(path.parent):  # noqa: PTH112
            raise UsageError(
                f"--report {name}: not a file in a folder that exists", "Create the folder first."
            )
        if not os.access(path if os.path.exists(path) else path.parent, os.W_OK):  # noqa: PTH110
            raise UsageError(f"--report {name}: cannot be written", "Name a file in a folder that is yours.")


def _check_suffix(path: Path) -> None:
    from aethr.output.report import FORMATS

    if path.suffix not in FORMATS:
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
