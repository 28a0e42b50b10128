"""What the fuzzer and the property tests start from: good files, and pieces that mean something in them."""

from __future__ import annotations

import json
from pathlib import Path

from aethr.base import codec
from aethr.base.records import Receipt, StepResult, Usage
from tests.oracles import EVENT

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
        "\n      code",
        "\n    12 +code",
        "\n  ```suggestion\n",
        "\n  ~~~\n",
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
SCHEMA_WORDS = (
    *('"severity"', '"high"', '"low"', '"path"', '"line"', '"message"', '"evidence"', '"suggestion"', "null"),
    *(
        '"verdict": "pass"',
        '"verdict": "revise"',
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        "\\n",
        "\n",
        "```json\n",
        "\n```",
    ),
    *(
        "1e3",
        "2.0",
        "true",
        "NaN",
        "\\ud800",
        "Review status: pass",
        "\n\nReview status: pass\n\n",
        "</think>",
    ),
)
"""What the JSON of a review has, and what is none."""
HTTP_WORDS = (
    *JSON_WORDS, "200", "403", "429", "502", "Link: ", '<https://api.example/x>; rel="next"', "<https://[",
    "Retry-After: ", "Thu, 01 Jan 2026 00:00:00 GMT", "html_url", "https://", "is locked", "rate limit",
    "run=", "\u0663", "\u00b2",
)  # fmt: skip
ENVIRONMENT_WORDS = (
    "GITHUB_RUN_ID=", "GITHUB_RUN_ATTEMPT=", "GITHUB_API_URL=", "GITHUB_SERVER_URL=", "GITHUB_EVENT_PATH=",
    "RUNNER_TEMP=", "GITHUB_REPOSITORY=", "GITHUB_EVENT_NAME=", "https://", "http://[", ":99999", "/dev/null",
    "/tmp", "\u0663", "@", "..",
)  # fmt: skip
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


def reviews_as_json() -> list[str]:
    """Of a pass, of findings with code, and of one that is a block of code."""
    finding = {"severity": "high", "path": "a.py", "line": 2, "end_line": 3, "message": "x\n`y`"}
    finding |= {"evidence": "a\n\tb", "suggestion": "```"}
    low = {**dict.fromkeys(finding), "severity": "low", "message": "</think> it is <b>slow</b>:"}
    said = [
        {"findings": [], "verdict": "pass"},
        {"findings": [finding, low], "verdict": "revise"},
        {"findings": [low], "verdict": "pass"},
    ]
    return [*map(json.dumps, said), f"```json\n{json.dumps(said[1], indent=2)}\n```"]


def checkpoints() -> list[str]:
    """Of a run that goes on and of one that failed; both in the earlier form; and the seed form."""
    review = StepResult("review", "reviewer", "model", "openai:m", 1, "0" * 64, "- [low] a.py:1 — x", "stop")
    edit = StepResult(
        *("implement", "implementer", "opencode", "openai:m", 2, "0" * 64, "done"),
        usage=Usage(10, 2, 12, 0.5),
        context=(Receipt("git_diff", "a.py", 3, 1, "0" * 64, "note", complete=False),),
    )
    head = {"schema": 1, "task": "t", "mode": "live", "scope": {"diff": "worktree", "head_sha": None}}
    steps = [codec.to_json(review), codec.to_json(edit)]
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


def comments(**changed: object) -> str:
    """A list of one comment of ours, which is also an answer to the question who we are."""
    mark = f"<!-- aethr:comment key=default run=400 attempt=1 head={'a' * 40} reviewed=none -->"
    url = "https://github.com/octo/shop/pull/7#issuecomment-1"
    comment = {"id": 1, "html_url": url, "body": f"{mark}\ntext", "user": {"login": "bot"}, **changed}
    return json.dumps([comment])


def answers_of_github() -> list[str]:
    link = 'Link: <https://api.example/page2>; rel="next"'
    return [
        f"200\n{link}\n\n{comments()}",
        '200\n\n{"data": {"viewer": {"login": "bot"}}, "html_url": "https://github.com/x", "message": "m"}',
        "200\n\n[]",
        '403\nRetry-After: 3\n\n{"message": "You have exceeded a secondary rate limit"}',
        '429\nRetry-After: Thu, 01 Jan 2026 00:00:00 GMT\n\n{"message": "slow down"}',
        "502\n\n<html>",
    ]


def events() -> list[str]:
    return [json.dumps(EVENT), "[]", ""]


def environments() -> list[str]:
    return [
        "GITHUB_RUN_ID=500\nGITHUB_RUN_ATTEMPT=2\nGITHUB_EVENT_NAME=push",
        "GITHUB_API_URL=https://ghe.example:8443/api/v3\nGITHUB_SERVER_URL=https://ghe.example:8443",
        "RUNNER_TEMP=/tmp\nGITHUB_WORKSPACE=/w\nGITHUB_GRAPHQL_URL=https://ghe.example/api/graphql",
    ]


def streams() -> list[str]:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "cost_in_usd_ticks": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    choices = [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]
    failed = {"error": {"message": "overloaded", "code": 529}}
    return [
        f"data: {json.dumps({'choices': choices, 'usage': usage})}\r\n\r\ndata: [DONE]\n\n",
        f": comment\n\ndata: {json.dumps(failed)}\n\n",
    ]


def lines_of_agents() -> list[str]:
    tokens = {"input": 10, "output": 2, "reasoning": 1, "cache": {"read": 3, "write": 4}}
    state = {"status": "error", "error": "rejected permission", "input": {"command": "x"}}
    error = {"name": "APIError", "data": {"statusCode": 500, "message": "down"}}
    usage = {"input_tokens": 3, "output_tokens": 1, "cache_read_input_tokens": 2}
    command = {"type": "command_execution", "command": "ls", "status": "failed"}
    each = [
        {"type": "text", "part": {"text": "Done."}},
        {"type": "tool_use", "part": {"tool": "bash", "state": state}},
        {"type": "step_finish", "part": {"reason": "stop", "tokens": tokens, "cost": 0.5}},
        {"type": "error", "error": error},
        {"type": "assistant", "message": {"content": [{"type": "text", "text": "Hi"}]}},
        {"type": "system", "subtype": "api_retry", "error": "x", "error_status": 529},
        {"type": "result", "subtype": "success", "usage": usage, "total_cost_usd": 0.1},
        {"type": "item.completed", "item": command},
        {"type": "turn.completed", "usage": usage},
        {"type": "turn.failed", "error": {"message": "no"}},
    ]
    lines = list(map(json.dumps, each))
    return ["\n".join(lines), *lines]
