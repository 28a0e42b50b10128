"""Gemini's generateContent, https://ai.google.dev/api/generate-content (pure).

Which model takes which settings follows LiteLLM, except where Google would refuse or ignore what LiteLLM
sends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aethr.base import outside
from aethr.base.providers import split
from aethr.base.records import Usage
from aethr.llm import Call, CallFailed, Chunk, Read, Settings, spending
from aethr.llm.protocols.content import read_content, read_objects

PATH = r":(?:streamG|g)enerateContent"
BUDGETS = {"none": 0, "low": 1024, "medium": 2048, "high": 4096}
"""Tokens to think with, by effort, for Gemini 2.5; ``LEAST_BUDGETS`` has those of ``minimal``."""
LEAST_BUDGETS = {"flash-lite": 512, "flash": 1, "pro": 128}
_OLD = re.compile(r"gemma-|gemini-(?:[12](?:\.\d+)?|exp|(?:pro|flash)(?!-(?:lite-)?latest$))(?:-|$)")
"""Models before Gemini 3, by LiteLLM's rule."""
_NEW = re.compile(r"gemini-(?:2[.-][5-9]|[3-9])")
"""Models that think, if the price file does not have them."""
_WITHOUT_SCHEMA = re.compile(r"gemma-|gemini-1\.")


def headers(call: Call) -> dict[str, str]:
    return {"x-goog-api-key": call.endpoint.key or ""}


def path_of(call: Call) -> str:
    """The path has the model's name. Without ``alt=sse`` a stream would be one JSON array."""
    method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
    return f"/v1beta/models/{quote(split(call.model.name)[1])}:{method}"


def frame(call: Call) -> dict[str, Any]:
    """The JSON of the request without its settings."""
    return {"contents": [{"role": "user", "parts": [{"text": call.prompt}]}]}


def settings(call: Call) -> Settings:
    """Only those that the model takes."""
    spec, row = call.model, spending.price_row(call.model.name) or {}
    found: dict[str, Mapping[str, Any]] = {
        "max_tokens": {"maxOutputTokens": call.max_tokens},
        "seed": {"seed": spec.seed},
    }
    if row.get("supports_sampling_params") is not False:
        found |= {"temperature": {"temperature": spec.temperature}, "top_p": {"topP": spec.top_p}}
    if (thinking := _thinking(call, row)) is not None:
        found["reasoning_effort"] = {"thinkingConfig": thinking} if thinking else {}
    if row.get("supports_response_schema", True) and not _WITHOUT_SCHEMA.match(split(spec.name)[1]):
        form = {"responseMimeType": "application/json", "responseJsonSchema": call.schema}
        found["schema"] = form if call.schema is not None else {}
    return {name: {"generationConfig": fragment} for name, fragment in found.items()}


def _thinking(call: Call, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The configuration for the effort; None if the model does not take this one.

    https://ai.google.dev/gemini-api/docs/thinking
    """
    effort, model = call.model.reasoning_effort, split(call.model.name)[1].rpartition("/")[2].lower()
    if effort is None:
        return {}
    if not row.get("supports_reasoning", not row and _NEW.match(model) is not None):
        return None
    shown = {"includeThoughts": effort != "none"}  # else nothing would arrive for minutes
    if _OLD.match(model):
        least = next((LEAST_BUDGETS[size] for size in LEAST_BUDGETS if size in model), LEAST_BUDGETS["pro"])
        budget = least if effort == "minimal" else BUDGETS.get(effort)
        if budget is None or (budget == 0 and "pro" in model):  # it cannot stop thinking
            return None
        return {"thinkingBudget": budget, **shown}
    if effort in ("none", "minimal"):
        small = "flash" in model and row.get("supports_minimal_reasoning_effort") is not False
        return {"thinkingLevel": "minimal" if small else "low", **shown}
    levels = ["low", "medium", "high", *(["xhigh"] if row.get("supports_xhigh_reasoning_effort") else [])]
    return {"thinkingLevel": effort, **shown} if effort in levels else None


def reader(model_name: str) -> Read:
    return _Reader(model_name).read


class _Reader:
    """Reads the events of one answer, or the complete answer. Nothing marks its end: a later word counts."""

    def __init__(self, model_name: str) -> None:
        self._model = model_name
        self._searched = False

    def read(self, data: Mapping[str, Any]) -> Chunk:
        """Only the first candidate counts. Raises ``CallFailed`` for a blocked prompt, and other forms."""
        blocked = (outside.at(data, "promptFeedback", name) for name in ("blockReason", "blockReasonMessage"))
        if said := ": ".join(filter(None, map(outside.text, blocked))):
            raise CallFailed("content_filter", f"the prompt was blocked: {said}")
        found = data.get("candidates")
        candidate = next(
            (each for each in read_objects(found, "candidates") if each.get("index") in (0, None, "0")), {}
        )
        contents = read_objects([candidate.get("content")], "content")
        parts = [part for content in contents for part in read_objects(content.get("parts"), "parts")]
        # https://ai.google.dev/gemini-api/docs/google-search
        self._searched |= bool(outside.at(candidate, "groundingMetadata", "webSearchQueries"))
        return Chunk(
            "".join(read_content(part.get("text")).text for part in parts if part.get("thought") is not True),
            outside.text(candidate.get("finishReason")) or None,
            self._counted(data.get("usageMetadata")),
        )

    def _counted(self, usage: object) -> Usage | None:
        """The counts so far; None if nothing was counted. A count of zero is a missing count."""

        def counted(name: str) -> int | None:
            return outside.count_if_any(outside.at(usage, name))

        asked = (counted("promptTokenCount") or 0) + (counted("toolUsePromptTokenCount") or 0)
        answered, thought = counted("candidatesTokenCount") or 0, counted("thoughtsTokenCount")
        # Google counts the thoughts apart, some gateways among the others.
        among = asked + answered == counted("totalTokenCount")
        cached = counted("cachedContentTokenCount")
        tokens = spending.Tokens(
            asked, answered if among else answered + (thought or 0), cached, thought=thought
        )
        details = (outside.at(usage, name) for name in ("promptTokensDetails", "candidatesTokensDetails"))
        media = any(
            outside.count(outside.at(each, "tokenCount"))
            for each in (each for detail in details if isinstance(detail, list) for each in detail)
            if str(outside.at(each, "modality")).upper() not in ("TEXT", "DOCUMENT")
        )
        # The prices known here are those of text; a search has its own.
        cost = None if media or self._searched else spending.cost(self._model, tokens)
        return spending.to_usage(tokens, cost)
