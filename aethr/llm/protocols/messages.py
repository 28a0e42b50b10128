"""Anthropic's Messages, https://platform.claude.com/docs/en/api/messages (pure).

Which model takes which settings follows LiteLLM, except where Anthropic would refuse what LiteLLM sends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aethr.base import outside
from aethr.base.providers import provider_of, split
from aethr.base.records import Usage
from aethr.llm import Call, Chunk, Read, Settings, spending
from aethr.llm.protocols.content import read_content, read_objects, write_content

PATH = r"/messages|/publishers/anthropic/models/[^/]+:(?:streamR|r)awPredict"
"""Also on Vertex AI, in Google's own kind of path."""
VERSION = "2023-06-01"
TEXT = ("text", "text_delta")

LEAST_BUDGET = 1024
_FAMILY = re.compile(r"claude-[a-z]+-\d")
_ADAPTIVE = re.compile(r"claude-[a-z]+-(?:4[-._](?:[6-9]|[1-9]\d)|[5-9])(?!\d)")
"""Claude 4.6 and later: LiteLLM's rule for models that the price file does not have."""
_ALWAYS_THINKS = re.compile(r"claude-(?:fable|mythos)-")


def headers(call: Call) -> dict[str, str]:
    key, found = call.endpoint.key, {"anthropic-version": VERSION}
    if key and key.startswith("sk-ant-oat"):  # a token of Claude Code, whichever variable has it
        return {"Authorization": f"Bearer {key}", "anthropic-beta": "oauth-2025-04-20", **found}
    if key:
        found |= {"Authorization": f"Bearer {key}"} if call.endpoint.bearer else {"x-api-key": key}
    return found


def frame(call: Call) -> dict[str, Any]:
    """The JSON of the request without its settings; but ``max_tokens``, which is required, is in it."""
    content = write_content(call)
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {
        "model": split(call.model.name)[1],
        "messages": [{"role": "user", "content": blocks}],
        "max_tokens": call.max_tokens,
        **({"stream": True} if call.stream else {}),
    }


def settings(call: Call) -> Settings:
    """Only those that the model takes."""
    spec, row = call.model, spending.price_row(call.model.name) or {}
    found: dict[str, Mapping[str, Any]] = {"max_tokens": {}}  # it is in the frame
    thinking = _thinking(call, row) if "reasoning_effort" not in call.left_out else None
    if thinking is not None:
        found["reasoning_effort"] = thinking
    samples = row.get("supports_sampling_params") is not False
    samples = samples and outside.at(thinking, "thinking", "type") in (None, "disabled")
    if samples or spec.temperature == 1:  # which is the default
        found["temperature"] = {"temperature": spec.temperature}
    if samples:
        found["top_p"] = {"top_p": spec.top_p}
    if row.get("supports_native_structured_output", True):
        form = {"format": {"type": "json_schema", "schema": call.schema}}
        found["schema"] = {"output_config": form} if call.schema is not None else {}
    return found


def _thinking(call: Call, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The fragment for the effort; None if the model does not take this one.

    https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
    """
    effort, model = call.model.reasoning_effort, split(call.model.name)[1]
    adaptive = row.get("supports_adaptive_thinking", _ADAPTIVE.search(model) is not None)
    if effort is None:
        return {}
    if not adaptive and not row.get("supports_reasoning", _FAMILY.search(model) is not None):
        return None
    if effort == "none":
        if row.get("thinking_always_on", _ALWAYS_THINKS.search(model) is not None):
            return None
        return {"thinking": {"type": "disabled"}} if adaptive else {}  # some adaptive models think by default
    budgets = provider_of(call.model.name).thinking_budgets
    if effort not in budgets:
        return None
    if adaptive:
        if effort == "xhigh" and not row.get("supports_xhigh_reasoning_effort"):
            return None
        # By default the newer models send thinking without text: nothing would arrive for minutes.
        word = "low" if effort == "minimal" else effort
        return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": word}}
    budget = min(budgets[effort], call.max_tokens - 1)
    return {"thinking": {"type": "enabled", "budget_tokens": budget}} if budget >= LEAST_BUDGET else None


def reader(model_name: str) -> Read:
    return _Reader(model_name).read


class _Reader:
    """Reads the events of one answer, or the complete message. The end counts only with ``message_stop``.

    https://platform.claude.com/docs/en/build-with-claude/streaming
    """

    def __init__(self, model_name: str) -> None:
        self._model = model_name
        self._usage: dict[str, Any] = {}
        self._end = Chunk()

    def read(self, data: Mapping[str, Any]) -> Chunk:
        """Raises ``CallFailed`` for text in another form. Events and blocks of unknown types are skipped."""
        kind = data.get("type")
        if kind == "message":
            self._take(data, data.get("usage"))
            return self._end._replace(text=_text(data.get("content")), usage=self._counted())
        if kind == "message_start":
            self._take({}, outside.at(data, "message", "usage"))
        elif kind == "content_block_start":
            return Chunk(_text([data.get("content_block")]))
        elif kind == "content_block_delta":
            return Chunk(_text([data.get("delta")]))
        elif kind == "message_delta":
            self._take(data.get("delta"), data.get("usage"))
            return Chunk(usage=self._counted())
        elif kind == "message_stop":
            return self._end
        return Chunk()

    def _take(self, message: object, usage: object) -> None:
        """Keep the end that ``message`` has, and the counts of ``usage``; they are cumulative."""
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}
        if reason := outside.text(outside.at(message, "stop_reason")):
            why = (outside.at(message, "stop_details", name) for name in ("explanation", "category"))
            said = next(filter(None, map(outside.text, why)), "it does not say why")
            self._end = Chunk(finish_reason=reason, refusal=said if reason == "refusal" else "")

    def _counted(self) -> Usage | None:
        """The counts so far; None if nothing was counted. A count of zero is a missing count."""

        def counted(*keys: str) -> int | None:
            return outside.count_if_any(outside.at(self._usage, *keys))

        cached, written = counted("cache_read_input_tokens"), counted("cache_creation_input_tokens")
        tokens = spending.Tokens(
            (counted("input_tokens") or 0) + (cached or 0) + (written or 0),  # which does not include them
            counted("output_tokens") or 0,
            cached,
            written,
            counted("output_tokens_details", "thinking_tokens"),
            counted("cache_creation", "ephemeral_1h_input_tokens") or 0,
            tuple(outside.text(self._usage.get(name)).lower() for name in ("inference_geo", "speed")),
        )
        searched = counted("server_tool_use", "web_search_requests")  # which has a price of its own
        return spending.to_usage(tokens, None if searched else spending.cost(self._model, tokens))


def _text(blocks: object) -> str:
    """The text of blocks, or of pieces of them; other types have none."""
    found = (each for each in read_objects(blocks, "content") if each.get("type") in TEXT)
    return "".join(read_content(each.get("text")).text for each in found)
