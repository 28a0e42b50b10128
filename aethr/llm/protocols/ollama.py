"""Ollama's own protocol, https://docs.ollama.com/api/chat (pure).

Its OpenAI endpoint has no ``num_ctx`` and silently cuts a prompt that is longer than its window; here Ollama
is asked to refuse it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from aethr.base import outside
from aethr.base.providers import split
from aethr.llm import Call, Chunk, Read, Settings, spending
from aethr.llm.protocols.content import read_content
from aethr.llm.spending import estimate_tokens

WHOLE_PROMPT: Mapping[str, bool] = {"truncate": False, "shift": False}
"""Refuse a prompt that does not fit, and do not drop its beginning while the answer grows."""
ANSWER_ROOM = 8192
"""In tokens: the answer's part of the window, which costs memory. A longer answer is cut: never a pass."""
WINDOW_STEP = 4096
"""In tokens: Ollama reloads the model for another size of the window, so sizes are rounded up."""


def frame(call: Call) -> dict[str, Any]:
    """The JSON of the request without its settings. Whether the model thinks is left at its default."""
    return {
        "model": split(call.model.name)[1],
        "messages": [{"role": "user", "content": call.prompt}],
        "stream": call.stream,
        "options": {"num_ctx": window(call)},
        **WHOLE_PROMPT,
    }


def settings(call: Call) -> Settings:
    names = ("temperature", "top_p", "seed")
    sent: dict[str, Mapping[str, Any]] = {
        name: {"options": {name: getattr(call.model, name)}} for name in names
    }
    limit = {"options": {"num_predict": call.max_tokens}}
    thinking = {"think": think(call)}
    return {"max_tokens": limit, "reasoning_effort": thinking, "schema": {"format": call.schema}, **sent}


def think(call: Call) -> bool | str | None:
    """Ollama's word for the effort: it has no ``minimal`` and no ``xhigh``."""
    effort = call.model.reasoning_effort
    words: Mapping[str | None, bool | str] = {"none": False, "minimal": "low", "xhigh": "max"}
    return words.get(effort, effort)


def reader(model_name: str) -> Read:
    return partial(read, model_name=model_name)


def window(call: Call) -> int:
    """The tokens that prompt and answer need: Ollama's default is 4,096 on most machines."""
    needed = estimate_tokens(call.prompt) + min(call.max_tokens, ANSWER_ROOM)
    return math.ceil(needed / WINDOW_STEP) * WINDOW_STEP


def read(data: Mapping[str, Any], model_name: str) -> Chunk:
    """Read one line of the answer; thinking is in another field. Raises ``CallFailed``."""
    message = data.get("message")
    text = read_content(message.get("content") if isinstance(message, dict) else data.get("response")).text
    if data.get("done") is not True:
        return Chunk(text)
    # Ollama does not count a prompt that it has in its cache.
    prompt, completion = (outside.count(data.get(key)) for key in ("prompt_eval_count", "eval_count"))
    tokens = spending.Tokens(prompt, completion)
    usage = spending.to_usage(tokens, spending.cost(model_name, tokens))
    return Chunk(text, outside.text(data.get("done_reason")) or "stop", usage)
