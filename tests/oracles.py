"""What must hold for any input of the readers, in words of its own: for property tests and the fuzzer."""

from __future__ import annotations

import json
import re
from typing import Any

import cmarkgfm
import html5lib
from cmarkgfm.cmark import Options

from aethr import checkpoint, codec, config, review
from aethr.checkpoint import Checkpoint
from aethr.config import Vocabulary
from aethr.errors import ConfigError, UsageError
from aethr.records import WorkflowSpec
from aethr.review import thinking

VOCABULARY = Vocabulary(
    sources={"git_diff": False, "latest_diff": False, "file": True, "glob": True},
    backends=("model", "opencode"),
)
_ABOUT = re.compile(r"(?<![a-z])reviewstatus")
_PASS = re.compile(r"[^a-z]*reviewstatus:pass")
_HIDDEN = frozenset((
    "blockquote", "comment", "del", "details", "head", "iframe", "noembed", "noframes", "object", "plaintext",
    "pre", "q", "s", "script", "select", "strike", "style", "svg", "template", "textarea", "title", "xmp",
))  # fmt: skip
_BLOCKS = frozenset((
    "blockquote", "br", "details", "div", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "section", "summary", "table", "tr", "ul",
))  # fmt: skip


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
    """A pass is the last line about the status on the page that GitHub would show, and stands in no quote.

    Two readers that are not ours make the page: GitHub's own Markdown parser, and an HTML5 parser.
    """
    verdict = review.parse(text)
    if verdict.status != "pass":
        return
    assert all(finding.severity == "low" for finding in verdict.findings)
    seen = [re.sub("[^a-z:]", "", line.lower()) for line in visible(_answer(text))]
    about = [line for line in seen if _ABOUT.search(line)]
    assert about, "no line about the status is visible"
    assert _PASS.fullmatch(about[-1]), f"the last line about the status is {about[-1]!r}"


def _answer(text: str) -> str:
    """Without thinking, and without the one fence that may be around all of it."""
    whole = thinking.split(text).answer
    fenced = re.fullmatch(r"\s*(`{3,}|~{3,})[ \t]*\w*[ \t]*\r?\n(.*)\n {0,3}\1\s*", whole, re.DOTALL)
    return fenced[2] if fenced and fenced[1] not in fenced[2] else whole


def visible(text: str) -> list[str]:
    """The lines of the rendered page that are not code, a quote, struck out, folded away or hidden."""
    page = cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE)
    tree = html5lib.parseFragment(page, namespaceHTMLElements=False)
    lines = [""]

    def put(piece: str | None, *, hidden: bool) -> None:
        for number, part in enumerate((piece or "").split("\n")):
            if number:
                lines.append("")
            lines[-1] += "" if hidden else part

    def walk(element: Any, *, hidden: bool) -> None:
        name = element.tag if isinstance(element.tag, str) else "comment"
        hidden = hidden or name in _HIDDEN or not {"hidden", "style", "class"}.isdisjoint(element.attrib)
        lines.extend([""] if name in _BLOCKS else [])
        put(element.text, hidden=hidden)
        for child in element:
            walk(child, hidden=hidden)
            put(child.tail, hidden=hidden)
        lines.extend([""] if name in _BLOCKS else [])

    walk(tree, hidden=False)
    return [line for line in lines if line.strip()]
