"""What must hold for any input of the readers, in words of its own: for property tests and the fuzzer."""

from __future__ import annotations

import json
import re
from itertools import chain

from markdown_it import MarkdownIt

from aethr import checkpoint, codec, config, review
from aethr.checkpoint import Checkpoint
from aethr.config import Vocabulary
from aethr.errors import ConfigError, UsageError
from aethr.records import WorkflowSpec

VOCABULARY = Vocabulary(
    sources={"git_diff": False, "latest_diff": False, "file": True, "glob": True},
    backends=("model", "opencode"),
)
_STATUS = re.compile(r"\s*(?:- )?review status\s*:\s*(pass|revise)[\s.]*", re.IGNORECASE)
_COMMONMARK = MarkdownIt("commonmark")


def a_workflow_or_its_mistakes(text: str) -> WorkflowSpec | None:
    """Nothing but a ``ConfigError`` that can be printed comes out of a workflow file."""
    try:
        return config.parse(text, "a.yaml", VOCABULARY)
    except ConfigError as error:
        said = str(error)
    assert said.replace("\n", "").isprintable()
    return None


def a_checkpoint_or_one_line(text: str) -> Checkpoint | None:
    """Nothing but a ``UsageError`` of one line comes out of a checkpoint; what is read can be written."""
    said = ""
    try:
        saved = checkpoint.load(text.lstrip("@"))
    except UsageError as error:
        said, saved = str(error), None
    assert "\n" not in said
    if saved is None:
        return None
    for step in saved.steps:
        assert codec.step_from_json(json.loads(codec.dumps(codec.step_to_json(step)))) == step
    return saved


def a_pass_only_when_it_is_said(text: str) -> None:
    """A pass stands on a line of its own, is the last status said, and is not in code or a quote."""
    verdict = review.parse(text)
    if verdict.status != "pass":
        return
    assert all(finding.severity == "low" for finding in verdict.findings)
    plain = [re.sub("[*_`#]", "", line) for line in spoken(text)]
    said = [match[1].lower() for line in plain if (match := _STATUS.fullmatch(line))]
    assert said, "no status line outside of code and quotes"
    assert said[-1] == "pass", "the last status line says revise"


def spoken(text: str) -> list[str]:
    """The lines that CommonMark does not take for code, without those that begin as a quote."""
    lines = re.split(r"\r\n?|\n", text)
    tokens = _COMMONMARK.parse(text)
    code = set(
        chain.from_iterable(
            range(*token.map) for token in tokens if token.type in ("fence", "code_block") and token.map
        )
    )
    return [line for at, line in enumerate(lines) if at not in code and not line.lstrip().startswith(">")]
