"""Untrusted text in GitHub Markdown, judged by rendering the result with a Markdown parser."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from aethr.output.markdown import BREAK, markdown_block, markdown_inline
from tests.support import many

examples = many(400)
FOOTER = "The footer stands."

PIECES = [
    *(
        "\n",
        "\n\n",
        " ",
        "    ",
        "\t",
        "- ",
        "1. ",
        "> ",
        "# ",
        "| a | b |\n|---|---|\n| ",
        "* ",
        "---\n",
        "=== \n",
    ),
    *(
        "```",
        "````",
        "~~~",
        "~~~~",
        "`",
        "``",
        "```python\n",
        "```mermaid\n",
        "  ```\n",
        "      ```\n",
        "- ```\n",
    ),
    *(
        "<img src=x>",
        "<!--",
        "-->",
        "<script>",
        "</details>",
        "<",
        "<?",
        "<![CDATA[",
        "<a@b.c>",
        "<http://x.y>",
    ),
    *(
        "![",
        "[",
        "]",
        "(",
        ")",
        "](",
        "]:",
        "[a]: javascript:x\n",
        "](javascript:alert(1))",
        "[a][b]",
        "![a](http://b/c)",
    ),
    *(
        "@team",
        "@",
        "&#64;team",
        "&commat;",
        "&#x40;",
        "&lt;",
        "&",
        "#12",
        "GH-7",
        "\\",
        "\\@",
        "a@b.example",
    ),
    *(
        "/approve",
        "/lgtm cancel",
        "/usr/bin/x",
        "ftp://a.b/c",
        "https://a.b/c",
        "https://github.com/o/r/issues/5",
        "/pull/",
        "/discussions/1",
        "word",
        "**",
        "_",
        "\r",
        "\u202e",
        "\0",
    ),
]
REACHES_OTHERS = re.compile(r"@\w|ftp://|GH-\d|#\d|/(issues|pull|discussions)/\d", re.IGNORECASE)
soups = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


def parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def flat(text: str) -> list[Token]:
    tokens = parser().parse(text)
    return [inner for token in tokens for inner in (token, *(token.children or ()))]


def assert_harmless(text: str) -> None:
    for token in flat(text):
        assert token.type not in ("image", "html_inline", "html_block", "link_open"), (token, text)
        if token.type == "text":
            assert not REACHES_OTHERS.search(token.content), (token.content, text)
    for line in text.split("\n"):
        assert not re.match(r"\s*/(approve|lgtm)(?![\w/-])", line), text


@examples
@given(soups)
def test_a_block_is_inert_and_closed(soup: str) -> None:
    safe = markdown_block(soup)
    assert_harmless(safe)
    assert safe.endswith("\n")
    assert "<!--" not in safe
    last = flat(safe + "\n" + FOOTER)[-4:]
    assert [token.type for token in last] == ["paragraph_open", "inline", "text", "paragraph_close"]
    assert last[0].level == 0
    assert last[2].content == FOOTER


@examples
@given(soups)
def test_a_block_made_safe_twice_is_the_same(soup: str) -> None:
    safe = markdown_block(soup)
    assert markdown_block(safe) == safe


@examples
@given(soups)
def test_a_line_renders_as_itself(soup: str) -> None:
    safe = markdown_inline(soup)
    assert "\n" not in safe
    for shown in (safe, f"- {safe}", f"| {safe} | x |\n|---|---|"):
        assert_harmless(shown)
        kinds = {token.type for token in flat(shown)}
        allowed = {"paragraph", "list_item", "bullet_list", "table", "thead", "tr", "th"}
        assert {kind.rsplit("_", 1)[0] for kind in kinds - {"inline", "text", "text_special"}} <= allowed, (
            safe
        )


@pytest.mark.parametrize("text", ["\\@_", "x@team_a", "x/pull/7", "https://github.com/o/r/issues/5", "o/r#5"])
def test_a_line_notifies_nobody(text: str) -> None:
    for safe in (markdown_inline(text), markdown_block(text)):
        assert_harmless(safe)
        assert BREAK in safe


def test_ordinary_markdown_stays_readable() -> None:
    text = (
        "# Title\n\n- **bold** and `code`\n  - nested\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "```python\n@property\ndef f(x: List[str]) -> str:\n    return '<b>' + x[0](1)\n```\n\n> quoted\n"
    )
    assert markdown_block(text) == text


@pytest.mark.parametrize("fence", ["```", "~~~~", "    ```", "\t~~~"])
def test_a_fence_left_open_is_closed(fence: str) -> None:
    tokens = parser().parse(markdown_block(f"text\n{fence}\n<b>@team</b>\n``` x\n") + f"\n{FOOTER}\n")
    assert [token.type for token in tokens].count("fence") == 1
    assert tokens[-2].content == FOOTER


def test_a_code_block_in_a_list_is_closed() -> None:
    # A parser ends the block with its list item; who looks for the closing fence takes the tag for code.
    safe = markdown_block("- item\n  ```\n<img src=x>\n  ```\nend")
    assert "fence" in [token.type for token in parser().parse(safe)]
    assert_harmless(safe)


def test_code_is_unchanged_except_comments_and_commands() -> None:
    safe = markdown_block("```sh\n/usr/bin/env x\n/approve\n<!-- marker -->\n@team &#64; ](x)\n```\n")
    assert safe == f"```sh\n/usr/bin/env x\n{BREAK}/approve\n<{BREAK}!-- marker -->\n@team &#64; ](x)\n```\n"


@pytest.mark.parametrize("info", ["mermaid", "suggestion", "Math", "js onload=x", "<b>"])
def test_a_code_block_loses_a_language_that_github_renders(info: str) -> None:
    first = markdown_block(f"```{info}\nx\n```").split("\n")[0]
    assert first in ("```", "```js")


def test_a_link_shows_its_url() -> None:
    assert markdown_block("[docs](https://a.example/x)") == f"[docs]{BREAK}(https://a.example/x)\n"


@pytest.mark.parametrize(
    "text", ["[" * 40_000, "`" * 40_000, "> " * 20_000, "<" * 40_000, "&" * 40_000, "```\n~~~\n" * 10_000]
)
def test_long_runs_take_little_time(text: str) -> None:
    start = time.process_time()
    markdown_block(text)
    markdown_inline(text)
    assert time.process_time() - start < 1


def test_a_line_shows_paths_and_markup_literally() -> None:
    text = "src/__init__.py: use *args | `x` <b> [a](javascript:b) 1 & 2"
    rendered = "".join(
        token.content for token in flat(markdown_inline(text)) if token.type.startswith("text")
    )
    assert rendered == text
