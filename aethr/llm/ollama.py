"""Ollama's own protocol, ``/api/chat``: what is sent, what a line of the answer means (pure).

https://docs.ollama.com/api/chat. Its OpenAI endpoint knows no ``num_ctx``, and cuts a prompt that is longer
than its window without a word; here it is told to refuse one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aethr.base import outside
from aethr.base.providers import split
from aethr.base.records import Usage
from aethr.llm import Call, Chunk, prices
from aethr.llm.chat import said
from aethr.llm.spending import estimate_tokens

PATH = "/api/chat"
WHOLE_PROMPT: Mapping[str, bool] = {"truncate": False, "shift": False}
"""Refuse a prompt that does not fit, and do not drop its beginning while the answer grows."""
ANSWER_ROOM = 8192
"""In tokens: what an answer gets of the window, which costs memory. A longer one is cut: never a pass."""
WINDOW_STEP = 4096
"""In tokens: a window of another size makes Ollama load the model anew, so sizes are rounded up."""


def serves(_model_name: str) -> bool:
    """Each model of such a server is called by it."""
    return True


def body(call: Call) -> dict[str, Any]:
    """The request. What the model thinks by default is left to it."""
    settings = {
        "temperature": call.model.temperature,
        "seed": call.model.seed,
        "num_predict": call.max_tokens,
        "num_ctx": window(call),
    }
    return {
        "model": split(call.model.name)[1],
        "messages": [{"role": "user", "content": call.prompt}],
        "stream": call.stream,
        "options": {name: value for name, value in settings.items() if value is not None},
        **WHOLE_PROMPT,
    }


def window(call: Call) -> int:
    """The tokens that the prompt and the answer need: its default is 4,096 on most machines."""
    needed = estimate_tokens(call.prompt) + min(call.max_tokens, ANSWER_ROOM)
    return math.ceil(needed / WINDOW_STEP) * WINDOW_STEP


def chunk(data: Mapping[str, Any], model_name: str) -> Chunk:
    """What one line says. What was thought stands beside the content. Raises ``CallFailed``."""
    message = data.get("message")
    text = said(message.get("content") if isinstance(message, dict) else data.get("response")).text
    if data.get("done") is not True:
        return Chunk(text)
    return Chunk(text, outside.text(data.get("done_reason")) or "stop", _usage(data, model_name))


def _usage(data: Mapping[str, Any], model_name: str) -> Usage | None:
    prompt, completion = (outside.count(data.get(key)) for key in ("prompt_eval_count", "eval_count"))
    if not (prompt and completion):  # a prompt read from its cache is not counted
        return Usage.of(prompt or None, completion or None) if prompt or completion else None
    return Usage.of(prompt, completion, prices.cost(model_name, prices.Tokens(prompt, completion)))
