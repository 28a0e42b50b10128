"""``aethr init``: a preset as this folder's ``.aethr.yaml``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aethr.base import disk
from aethr.base.errors import UsageError
from aethr.base.words import two_columns
from aethr.config import PRESETS, REVIEW_PRESET, WORKFLOW_FILE, read_preset


def main(preset: str | None, *, only_list: bool, force: bool) -> int:
    """Write the preset's file here. Without a name, ask for it on a terminal or else list the presets."""
    if only_list or (preset is None and not sys.stdin.isatty()):
        sys.stdout.write(two_columns(PRESETS, sys.stdout))
        return 0
    path = Path(WORKFLOW_FILE)
    if path.is_dir() and not path.is_symlink():
        raise UsageError(f"{path} is a folder", "Move it away.")
    if os.path.lexists(path) and not force:
        raise _already(path)
    chosen = preset if preset is not None else _ask()
    with disk.failing_as(f"{path}: cannot write"):
        try:
            disk.write(path, read_preset(chosen), overwrite=force)  # in one step, never through a link
        except FileExistsError as error:
            raise _already(path) from error
    rows = {"aethr check": "shows what it does", 'aethr run "what to do"': "runs it"}
    following = two_columns(rows, sys.stdout, "  ")
    sys.stdout.write(f"Wrote {WORKFLOW_FILE} from the preset {chosen}.\nNext:\n{following}")
    return 0


def _ask() -> str:
    names = list(PRESETS)
    rows = {f"{number}  {name}": line for number, (name, line) in enumerate(PRESETS.items(), start=1)}
    sys.stdout.write(two_columns(rows, sys.stdout))
    sys.stdout.write(f"Which one? (number or name; Enter: {REVIEW_PRESET}) ")
    sys.stdout.flush()
    line = sys.stdin.readline()
    answer = line.strip() or (REVIEW_PRESET if line else "")
    if answer.isdecimal() and 1 <= int(answer) <= len(names):
        return names[int(answer) - 1]
    if not answer:  # Ctrl-D
        raise UsageError("no preset chosen", "Name one: aethr init review-existing-diff.")
    return answer


def _already(path: Path) -> UsageError:
    return UsageError(f"{path} is already here", "`aethr init --force` overwrites it.")
