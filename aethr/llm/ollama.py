"""Ollama's own protocol, ``/api/chat``: what is sent, what a line of the answer means (pure).

https://docs.ollama.com/api/chat. Its OpenAI endpoint knows no ``num_ctx``, and cuts a prompt that is longer
than its window without a word; here it is told to refuse one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aethr import __version__, outside
from aethr.llm import costs
from aethr.llm.calls import Call, Chunk
from aethr.llm.content import said
from aethr.llm.spending import estimate_tokens
from aethr.providers import split
from aethr.records import Usage

HOST = "http://localhost:11434"
PATH = "/api/chat"
WHOLE_PROMPT: Mapping[str, bool] = {"truncate": False, "shift": False}
"""Refuse a prompt that does not fit, and do not drop its beginning while the answer grows."""
ANSWER_ROOM = 8192
"""In tokens: what an answer gets of the window, which costs memory. A longer one is cut: never a pass."""
WINDOW_STEP = 4096
"""In tokens: a window of another size makes Ollama load the model anew, so sizes are rounded up."""


def address(call: Call) -> str:
    """Where the request goes."""
    base = (call.endpoint.base or HOST).rstrip("/")
    return base if base.endswith(PATH) else base + PATH


def headers(call: Call) -> dict[str, str]:
    """The request's own headers; a server of one's own wants no key, one behind a gateway may."""
    key = call.endpoint.key
    own = {"Content-Type": "application/json", "User-Agent": f"aethr/{__version__}"}
    return {**own, "Authorization": f"Bearer {key}"} if key else own


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
    reason = data.get("done_reason")
    return Chunk(text, reason if isinstance(reason, str) and reason else "stop", _usage(data, model_name))


def _usage(data: Mapping[str, Any], model_name: str) -> Usage | None:
    prompt, completion = _count(data, "prompt_eval_count"), _count(data, "eval_count")
    if not (prompt and completion):  # a prompt read from its cache is not counted
        return Usage(prompt or None, completion or None) if prompt or completion else None
    cost = costs.cost(model_name, costs.Tokens(prompt, completion))
    return Usage(prompt, completion, prompt + completion, cost)


def _count(data: Mapping[str, Any], key: str) -> int:
    return outside.count(data.get(key))
