"""``aethr init``: a preset as this folder's ``.aethr.yaml``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aethr.base import disk
from aethr.base.errors import UsageError
from aethr.config import WORKFLOW_FILE, presets
from aethr.config.presets import PRESETS
from aethr.output import columns


def show() -> int:
    """Print every preset with its line."""
    sys.stdout.write(columns.text(columns.pairs(PRESETS, columns.width(sys.stdout))))
    return 0


def main(preset: str | None, *, force: bool) -> int:
    """Write the preset's file here; asks for the preset on a terminal, lists them otherwise."""
    if preset is None and not sys.stdin.isatty():
        return show()
    path = Path(WORKFLOW_FILE)
    if path.is_dir() and not path.is_symlink():
        raise UsageError(f"{path} is a folder", "Move it away.")
    if os.path.lexists(path) and not force:
        raise _already(path)
    chosen = preset if preset is not None else _asked()
    _write(path, presets.text(chosen), force=force)
    sys.stdout.write(f"Wrote {WORKFLOW_FILE} from the preset {chosen}.\n{_next()}")
    return 0


def _asked() -> str:
    names = list(PRESETS)
    rows = {f"{number}  {name}": line for number, (name, line) in enumerate(PRESETS.items(), start=1)}
    sys.stdout.write(columns.text(columns.pairs(rows, columns.width(sys.stdout))))
    sys.stdout.write("Which one? (number or name) ")
    sys.stdout.flush()
    answer = sys.stdin.readline().strip()
    if answer.isdecimal() and 1 <= int(answer) <= len(names):
        return names[int(answer) - 1]
    if not answer:
        raise UsageError("no preset chosen", "Name one: aethr init review-existing-diff.")
    return answer


def _next() -> str:
    rows = {"aethr check": "shows what it does", 'aethr run "what to do"': "runs it"}
    return "Next:\n" + columns.text(columns.pairs(rows, columns.width(sys.stdout), "  "))


def _already(path: Path) -> UsageError:
    return UsageError(f"{path} is already here", "`aethr init --force` overwrites it.")


def _write(path: Path, text: str, *, force: bool) -> None:
    """Create the file, never through a link; with ``force`` replace it in one step."""
    with disk.failing_as(f"{path}: cannot write"):
        try:
            disk.write(path, text, overwrite=force)
        except FileExistsError as error:
            raise _already(path) from error
