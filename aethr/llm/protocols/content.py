"""The text of a prompt and of an answer, in the shapes that servers take and send (pure)."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

from aethr.base.providers import PrefixCache, provider_of, split
from aethr.llm import Call, CallFailed, spending

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


def prefix_cache(call: Call) -> PrefixCache | None:
    """The cache that serves a call as far as its request marks the prompt."""
    provider, row = provider_of(call.model.name), spending.price_row(call.model.name) or {}
    cache = provider.prefix_cache
    if cache is None or not (cache.elsewhere or provider.is_at(call.endpoint.base)):
        return None
    return cache if cache.has(split(call.model.name)[1], spending.charges_for_writes(row)) else None


def write_content(call: Call) -> str | list[dict[str, Any]]:
    """The prompt of a call: a text, or parts of one, each but the last marked for the prefix cache.

    No part is empty: Anthropic refuses those.
    """
    cache, ends = prefix_cache(call), tuple(end for end in call.shared if 0 < end < len(call.prompt))
    if cache is None or not ends:
        return call.prompt
    pieces = (call.prompt[begin:end] for begin, end in zip((0, *ends), (*ends, None), strict=True))
    *marked, last = ({"type": "text", "text": piece} for piece in pieces)
    return [*({**part, **cache.mark} for part in marked), last]


def cache_settings(call: Call) -> dict[str, Any]:
    """What the prefix cache needs in the request beside the marks."""
    cache = prefix_cache(call)
    if cache is None:
        return {}
    if cache.key is None or not call.shared:
        return dict(cache.request)
    beginning = call.prompt[: call.shared[0]].encode("utf-8", "replace")
    return {**cache.request, cache.key: sha256(beginning).hexdigest()[:32]}


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
