"""``--save``: a run that worked becomes this project's workflow file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from aethr import config, disk
from aethr.config import emit
from aethr.errors import ConfigError, DiskError, ExitCode, UsageError
from aethr.records import WORKFLOW_FILE, WorkflowSpec
from aethr.sanitize import Redactor
from aethr.workflow import Bound, vocabulary

COMPLETED = (ExitCode.OK, ExitCode.GATE)
"""A gate's no says something about the change, and nothing against the workflow."""


class Promotion(NamedTuple):
    """The file that a run will leave behind: nothing is written before it has completed."""

    path: Path
    text: str

    def write(self) -> None:
        """Put the file there in one step, over no other. Raises ``DiskError``."""
        with disk.failing_as(f"{self.path}: cannot write"):
            try:
                disk.write(self.path, self.text, overwrite=False)
            except FileExistsError as error:
                beside = self.path.with_name(f"{self.path.name}.{os.urandom(4).hex()}")
                disk.write(beside, self.text, overwrite=False)
                raise DiskError(
                    f"{self.path} came into being during the run", f"The workflow is in {beside}."
                ) from error


def promote(bound: Bound) -> Promotion:
    """The workflow of a run as a file of its project. Raises ``UsageError``; nothing is written yet."""
    path = bound.root / WORKFLOW_FILE
    if os.path.lexists(path):
        raise UsageError(f"--save: {path} is already here", "Move it away; --save overwrites nothing.")
    if not os.access(bound.root, os.W_OK):
        raise UsageError(f"--save: {path} cannot be written", "Leave --save out, or make the folder yours.")
    text = emit.text(bound.workflow)
    if Redactor(bound.terms.secrets).redact(text) != text:
        raise UsageError("--save: the workflow holds the value of a key", "Take the key out of its text.")
    try:
        again = config.parse(text, WORKFLOW_FILE, vocabulary())
    except ConfigError as error:
        raise UsageError(f"--save: this workflow does not fit into a file: {error.mistakes[0]}") from error
    assert _meaning(again) == _meaning(bound.workflow)
    return Promotion(path, text)


def _meaning(spec: WorkflowSpec) -> WorkflowSpec:
    """The workflow without the places that it came from."""
    return spec._replace(origin="", places={}, lines=())
