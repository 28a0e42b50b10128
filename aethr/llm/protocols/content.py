"""The text of an answer in the shapes that servers send it (pure)."""

from __future__ import annotations

from typing import Any, NamedTuple

from aethr.llm import CallFailed

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
"""Types of parts that have no text of the answer."""


def read_objects(value: object, name: str) -> list[dict[str, Any]]:
    """The objects in a list; None is empty, and so is None in it. Raises ``CallFailed`` for another form."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(each is None or isinstance(each, dict) for each in value):
        raise CallFailed("garbage", f"broken JSON in the answer: {name} is not a list of objects")
    return [each for each in value if each is not None]


class Content(NamedTuple):
    """The text of an answer, and the text of a refusal in its place."""

    text: str = ""
    refusal: str = ""


def read_content(content: object) -> Content:
    """The text in ``content`` (a string, a part, or a list of either) without the model's thinking.

    None is empty. Raises ``CallFailed`` for a part of an unknown type.
    """
    if content is None:
        return Content()
    if isinstance(content, str):
        return Content(content)
    if isinstance(content, list):
        parts = [read_content(part) for part in content]
        return Content("".join(part.text for part in parts), "".join(part.refusal for part in parts))
    if not isinstance(content, dict):
        raise CallFailed("garbage", f"a piece of the answer cannot be read: {str(content)[:80]}")
    kind, text = content.get("type"), content.get("text")
    if kind in THOUGHT or content.get("thought") is True or kind in SILENT:
        return Content()
    if kind == "refusal":
        return Content(refusal=read_content(content.get("refusal") or text).text)
    if kind in TEXT or (kind is None and "text" in content):
        return read_content(text.get("value") if isinstance(text, dict) else text)
    raise CallFailed("garbage", f"a part of the answer cannot be read: its type is '{str(kind)[:80]}'")
