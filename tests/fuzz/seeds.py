"""What the fuzzer and the property tests start from: good files, and pieces that mean something in them."""

from __future__ import annotations

from pathlib import Path

from aethr import codec
from aethr.records import Receipt, StepResult, Usage

DATA = Path(__file__).parent.parent / "data"

YAML_WORDS = (
    "<<",
    "&a ",
    "*a",
    "!!",
    "? ",
    "|",
    ">-",
    "%YAML 1.9",
    "until_review_pass",
    "back_to",
    ".inf",
    "\\u",
)
JSON_WORDS = (
    "null",
    "true",
    "1e400",
    "-0.0",
    "NaN",
    "[",
    "{",
    '"',
    "\\ud800",
    "step_id",
    "metadata",
    "artifacts",
)
REVIEW_WORDS = (
    *("Review status: pass", "Review status: revise", "Review status: pass\n", "**Review status: pass**"),
    *(
        "- [high] a.py:1 — x",
        "[high] ",
        "| a | b |\n|-|-|\n",
        "| high | x |",
        "text",
        "text.",
        "<think>",
        "</think>",
    ),
    *(
        "```",
        "````",
        "~~~",
        "> ",
        "- ",
        "* ",
        "+ ",
        "1. ",
        "# ",
        "    ",
        "  ",
        "\t",
        "\n",
        "\n\n",
        "\r",
        "\r\n",
    ),
    *("`", "``", "~~", "**", "***", "_", "---", "===", "\\", ">", "[", "]", "![", "](x)", '[x]: /u "', '"'),
    *("<!--", "-->", "<?", "?>", "<![CDATA[", "]]>", "<!X", "&lt;", "&#82;", '<a href="', "<x-y>"),
    *(
        "<pre>",
        "</pre>",
        "<details>",
        "</details>",
        "<div>",
        "</div>",
        "<div hidden>",
        "<script>",
        "</script>",
    ),
    *(
        "<b>",
        "</b>",
        "<del>",
        "</del>",
        "<blockquote>",
        "</blockquote>",
        "<p>",
        "</p>",
        "<span style=x>",
        "</span>",
    ),
)
"""Whatever can hide a line of Markdown, or show one that is not the answer's own."""
FRAGMENTS = (
    *YAML_WORDS,
    *JSON_WORDS,
    "",
    "\n",
    "\t",
    ": ",
    "\x00",
    "\x1b",
    "\ud800",
    "é",
    "9" * 30,
    "-" * 200,
)


def workflows() -> list[str]:
    return [path.read_bytes().decode() for path in sorted((DATA / "config").rglob("*.yaml"))]


def reviews() -> list[str]:
    return [path.read_bytes().decode() for path in sorted((DATA / "review").glob("*.txt"))]


def checkpoints() -> list[str]:
    """Of a run that goes on and of one that failed; both in the earlier form; and the seed form."""
    review = StepResult("review", "reviewer", "model", "openai:m", 1, "0" * 64, "- [low] a.py:1 — x", "stop")
    edit = StepResult(
        *("implement", "implementer", "opencode", "openai:m", 2, "0" * 64, "done"),
        usage=Usage(10, 2, 12, 0.5),
        context=(Receipt("git_diff", "a.py", 3, 1, "0" * 64, "note", complete=False),),
    )
    head = {"schema": 1, "task": "t", "mode": "live", "scope": {"diff": "worktree", "head_sha": None}}
    steps = [codec.step_to_json(review), codec.step_to_json(edit)]
    failure = {"step": "implement", "error": "it failed", "changed_files": ["a.py"]}
    first = codec.line({**head, "schema": 2})
    grown = [first, *(codec.line({"step": step, "contract": {}}) for step in steps)]
    return [
        "".join(grown),
        "".join([*grown, codec.line({"failure": failure})]),
        codec.dumps({**head, "contract": {"review": {}}, "steps": steps, "failure": None}),
        codec.dumps({**head, "contract": {"review": {}}, "steps": steps, "failure": failure}),
        '[{"step_id": "plan", "content": "x", "metadata": {}, "artifacts": {}, "usage": {}}]',
    ]
