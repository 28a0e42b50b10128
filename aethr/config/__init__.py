"""What people write: the workflow file, presets, the file of replies, and keys in ``.env``.

This module is loaded early, so it imports little.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aethr.base.errors import UsageError
from aethr.base.words import suggest

WORKFLOW_FILE = ".aethr.yaml"

PRESETS: Mapping[str, str] = {
    "plan-implement-review": "plan, let an agent implement, review, iterate",
    "review-existing-diff": "review the change in the working tree",
    "review-thorough": "review it three times at once, then check the findings",
    "debug-failing-test": "let an agent fix a failing test, until it passes",
    "add-tests": "let an agent test what a change leaves untested",
    "docs-sync": "draft what the docs should say after a change",
    "custom": "a commented start for your own workflow",
}
"""Each preset's name and what it does; its file is ``presets/NAME.yaml``."""

REVIEW_PRESET = "review-existing-diff"
"""The workflow of the hook and the Action in a project without a workflow file."""


def read_preset(name: str) -> str:
    """The file of a preset. Raises ``UsageError`` with the nearest name for an unknown preset."""
    if name not in PRESETS:
        raise UsageError(
            f"no preset '{name}'{suggest(name, PRESETS)}", "`aethr init --list` shows all presets."
        )
    return (data_folder("presets") / f"{name}.yaml").read_text(encoding="utf-8")


def data_folder(name: str) -> Path:
    """A folder of files that come with Aethr: in a wheel below ``data``, else beside the package."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "data" / name
    return installed if installed.is_dir() else package.parent / name
