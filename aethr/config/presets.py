"""The built-in workflows: files under ``presets/``, and a line on each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aethr.base.errors import UsageError
from aethr.base.words import suggest

PRESETS: Mapping[str, str] = {
    "plan-implement-review": "plan, let an agent implement, review, iterate",
    "review-existing-diff": "review the change in the working tree",
    "debug-failing-test": "let an agent fix a failing test, until it passes",
    "add-tests": "let an agent test what a change leaves untested",
    "docs-sync": "draft what the docs should say after a change",
    "custom": "a commented start for your own workflow",
}
"""Each preset's name and what it does; its file is ``presets/NAME.yaml``."""

REVIEW = "review-existing-diff"
"""What the hook and the Action review with where the project has no workflow file."""


def text(name: str) -> str:
    """A preset's file. Raises ``UsageError`` with the nearest name for one that does not exist."""
    if name not in PRESETS:
        raise UsageError(
            f"no preset '{name}'{suggest(name, PRESETS)}", "`aethr init --list` shows all presets."
        )
    return (_folder() / f"{name}.yaml").read_text(encoding="utf-8")


def _folder() -> Path:
    """Inside the package when installed from a wheel, beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "data" / "presets"
    return installed if installed.is_dir() else package.parent / "presets"
