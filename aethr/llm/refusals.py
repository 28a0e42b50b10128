"""Which setting of a request its provider has refused by name, so that it can be left out (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aethr.llm import Call, CallFailed, Settings
from aethr.llm.protocols import PROTOCOLS, SETTINGS, protocol_of, serves, wanted

_ABOUT_SCHEMA = re.compile(
    r"schema|response_?format|output_(?:config|format)|text\.format|mime_?type|structured.?output|grammar|json.?mode"
    r"|request\.format\b|[`'\"]format[`'\"]",
    re.IGNORECASE,
)
"""What servers write that refuse the schema: few name a parameter, and Ollama answers 500.

https://github.com/web-infra-dev/midscene/issues/259, https://github.com/Kiln-AI/Kiln/issues/186,
https://github.com/datalab-to/marker/issues/984
"""


def refused_setting(call: Call, failure: CallFailed) -> str | None:
    """The setting of ours that the provider refused by name, so that the call can be made without it.

    Never one that is in the user's ``options`` too. A limit counts only where it has another name.
    """
    refused, ours = _refused_names(failure), wanted(call).keys() - call.left_out
    if refused & _keys(call.model.options):
        return None
    may_be = failure.kind in ("bad_request", "not_found") or failure.status == 500
    if "schema" in ours and may_be and _ABOUT_SCHEMA.search(f"{failure.parameter} {failure.message}"):
        return "schema"
    sent: Settings = {}
    if serves(call.model.name):
        protocol = protocol_of(call.model.name)
        sent = protocol.settings(call)
        ours -= set() if protocol is PROTOCOLS["chat"] else {"max_tokens"}
    names = {
        name: _keys({name: sent.get(name)}) | _ALIASES.get(name, set()) for name in SETTINGS if name in ours
    }
    return next((name for name, known in names.items() if refused & known), None)


def refused_option(call: Call, failure: CallFailed) -> str | None:
    """The option of the user that the provider refused by name."""
    refused, options = _refused_names(failure), call.model.options
    return next((name for name in options if refused & _keys({name: options[name]})), None)


_ALIASES: Mapping[str, set[str]] = {
    "max_tokens": {"maxcompletiontokens"},
    "seed": {"randomseed"},
    "reasoning_effort": {"reasoning", "effort", "thinking", "think", "budgettokens", "thinkingconfig"},
}
"""Other names of our settings, in requests that LiteLLM makes and in messages, as ``_plain`` writes them."""
_NAMED = re.compile(
    r"[`'\"]([A-Za-z][\w.]*)[`'\"]"
    r"|does not (?:support|accept|allow|take)(?: the)?(?: parameters?:?| arguments?:?)? ([A-Za-z][\w.]*)"
    r"|\b(?:parameter|argument|field|setting)s?(?: supplied)?:? ([A-Za-z][\w.]*)"
    r"|^([a-z][\w.]*): "
)
"""A name in a message: most providers quote it."""
_VAGUE = frozenset({"type", "name"})
"""Names in a fragment that say nothing about its setting."""


def _refused_names(failure: CallFailed) -> set[str]:
    """What the provider refuses by name, as ``_plain`` writes it: a parameter, or names in its message."""
    if failure.kind != "bad_request":
        return set()
    told = _NAMED.findall(failure.message)
    names = [failure.parameter] if failure.parameter else ["".join(groups) for groups in told]
    return {_plain(name.rstrip(".").rpartition(".")[2]) for name in names}


def _keys(fragment: Mapping[str, Any]) -> set[str]:
    """The names in a fragment, but not those that a schema has."""
    below = (
        _keys(value)
        for name, value in fragment.items()
        if isinstance(value, Mapping) and not name.endswith(("schema", "Schema"))
    )
    return {_plain(name) for name in fragment if name not in _VAGUE}.union(*below)


def _plain(name: str) -> str:
    """A name as it is compared: ``reasoningEffort`` is ``reasoning_effort``."""
    return name.replace("_", "").lower()
