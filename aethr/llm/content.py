"""What the content of a message says: a text, or a list of parts of which some are the answer (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aethr.llm.calls import CallFailed

TEXT = ("text", "output_text")
THOUGHT = (
    "thinking",
    "redacted_thinking",
    "reasoning",
    "reasoning_content",
    "reasoning_text",
    "summary_text",
    "thought",
)
SILENT = (
    "reference",
    "citation",
    "tool_use",
    "tool_call",
    "tool_calls",
    "function_call",
    "image",
    "image_url",
    "audio",
    "input_audio",
    "file",
)
"""Parts that have no words of the answer."""


class Said(NamedTuple):
    """The words of an answer, and those in place of one."""

    text: str = ""
    refusal: str = ""


def said(content: object) -> Said:
    """The text in ``content``; thinking is left out. Raises ``CallFailed`` for what cannot be read.

    It is a text, one part, or a list of either; nothing is nothing.
    """
    if content is None:
        return Said()
    if isinstance(content, str):
        return Said(content)
    if isinstance(content, dict):
        return _part(content)
    if isinstance(content, list):
        parts = [said(part) for part in content]
        return Said("".join(part.text for part in parts), "".join(part.refusal for part in parts))
    raise CallFailed("garbage", f"a piece of the answer cannot be read: {str(content)[:80]}")


def _part(part: Mapping[str, Any]) -> Said:
    kind = part.get("type")
    if kind in THOUGHT or part.get("thought") is True or kind in SILENT:
        return Said()
    if kind == "refusal":
        return Said(refusal=said(part.get("refusal") or part.get("text")).text)
    text = part.get("text")
    if kind in TEXT or (kind is None and "text" in part):
        return said(text.get("value") if isinstance(text, dict) else text)
    raise CallFailed("garbage", f"a part of the answer cannot be read: its type is '{str(kind)[:80]}'")
