"""How much a model thinks: the words that it takes for it, and the room that thinking and answer need (pure).

What a model takes is in its row of the price file, read as LiteLLM reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aethr.base.providers import EFFORTS, provider_of, split
from aethr.base.records import ModelSpec
from aethr.llm import spending

ROOM = 25_000
"""In tokens, for thinking and answer together.

https://platform.openai.com/docs/guides/reasoning#allocating-space-for-reasoning
"""

_IMPLIED = frozenset({"none", "minimal", "low", "medium", "high"})
"""Words that a model takes unless its row excludes them; the others have to be in it."""


def words(model_name: str) -> tuple[str, ...] | None:
    """The words that ``provider:model`` takes as its effort, none for a model that does not think.

    None if that is not known: most rows say only that a model thinks.
    """
    row = spending.price_row(model_name)
    if row is None:
        return None
    flags = {word: row.get(f"supports_{word}_reasoning_effort") for word in EFFORTS}
    if row.get("supports_reasoning") is not True and not any(flag is not None for flag in flags.values()):
        return ()
    stated = row.get("reasoning_effort_levels")
    if isinstance(stated, list):
        return tuple(word for word in EFFORTS if word in stated)
    if all(flag is None for flag in flags.values()):
        return None
    always = row.get("thinking_always_on") is True
    taken = {word for word, flag in flags.items() if flag is True or (flag is None and word in _IMPLIED)}
    return tuple(word for word in EFFORTS if word in taken and not (always and word == "none"))


def find_doubts(model: ModelSpec) -> Iterator[str]:
    """What does not fit in a model's settings: an effort that it does not take, a limit that is too low."""
    effort, taken = model.reasoning_effort, words(model.name)
    source = "(by LiteLLM's price file)"
    if effort is not None and taken == ():
        yield f"{model.name} does not think, so reasoning_effort {effort} has no effect {source}"
    elif effort is not None and taken is not None and effort not in taken:
        yield f"{model.name} takes reasoning_effort {_join(taken)}, not {effort} {source}"
    limit, room = model.max_tokens, room_of(model)
    if limit is None or limit >= room:
        return
    budget = _budgets(model.name).get(effort or "")
    if budget is None:
        too_low = f"max_tokens {limit:,} may all go to thinking"
    else:
        too_low = f"reasoning_effort {effort} takes {budget:,} tokens for thinking, of max_tokens {limit:,}"
    yield f"{model.name}: {too_low}; set max_tokens to {room:,} or more, or lower reasoning_effort"


def room_of(model: ModelSpec) -> int:
    """The ``max_tokens`` that its thinking and an answer need; 0 for a model that does not think."""
    row, effort = spending.price_row(model.name), model.reasoning_effort
    budgets = _budgets(model.name)
    if budgets:
        room = budgets[effort] + spending.ANSWER_TOKENS if effort and effort in budgets else 0
    else:
        room = ROOM if _thinks(model, row) else 0
    price = spending.lookup(model.name)
    return min(room, price.max_output or room) if price is not None else room


def _budgets(model_name: str) -> Mapping[str, int]:
    """The tokens for each effort, of a model that thinks only if it is asked to."""
    row = spending.price_row(model_name) or {}
    is_asked = row.get("supports_reasoning") is True and not row.get("supports_adaptive_thinking")
    return provider_of(model_name).thinking_budgets if is_asked else {}


def _thinks(model: ModelSpec, row: Mapping[str, Any] | None) -> bool:
    if row is None:
        named = provider_of(model.name).thinks(split(model.name)[1], False)
        return named and model.reasoning_effort != "none"
    if row.get("thinking_always_on") is True:
        return True
    effort = model.reasoning_effort or row.get("default_reasoning_effort")
    return words(model.name) != () and effort != "none"


def _join(taken: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(taken[:-1]), taken[-1])))
