"""OpenAI's Responses, https://platform.openai.com/docs/api-reference/responses (pure).

Some models are served only by this protocol. Each request asks the provider not to keep it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aethr.base import outside
from aethr.base.providers import provider_of, split
from aethr.llm import LENGTH, REFUSED, Call, CallFailed, Chunk, Read, Settings, spending
from aethr.llm.failures import error_event
from aethr.llm.protocols import chat
from aethr.llm.protocols.content import Content, cache_settings, read_content, read_objects, write_content

MARK = "responses/"
"""LiteLLM's prefix for a model that is to be called in this protocol."""
LOWEST_LIMIT = 16
"""In tokens: a lower ``max_output_tokens`` is refused."""


def is_responses_model(model_name: str) -> bool:
    """Whether a model is called in this protocol: it is marked, or by the price file, or else by its name."""
    model, row = split(model_name)[1], spending.price_row(model_name)
    if model.startswith(MARK):
        return True
    if row is not None:
        return row.get("mode") == "responses"
    return provider_of(model_name).responses_only.fullmatch(model) is not None


def frame(call: Call) -> dict[str, Any]:
    """The JSON of the request without its settings."""
    name, row = call.model.name, spending.price_row(call.model.name) or {}
    streamed = call.stream and row.get("supports_native_streaming") is not False
    unpadded = {"stream_options": {"include_obfuscation": False}}
    content: Any = write_content(call)
    if not isinstance(content, str):
        content = [{"role": "user", "content": [{**part, "type": "input_text"} for part in content]}]
    return {
        "model": split(name)[1].removeprefix(MARK),
        "input": content,
        "store": False,
        "stream": streamed,
        **(unpadded if streamed and provider_of(name).pads_streams else {}),
        **cache_settings(call),
    }


def settings(call: Call) -> Settings:
    """Those of chat completions that the model takes, without the seed, which this protocol does not have."""
    taken = dict(chat.taken(call))
    taken.pop("seed", None)
    schema = {"type": "json_schema", "name": "review", "strict": True, "schema": call.schema}
    fragments: dict[str, Mapping[str, Any]] = {
        "max_tokens": {"max_output_tokens": max(call.max_tokens, LOWEST_LIMIT)},
        "schema": {"text": {"format": schema} if call.schema else None},
    }
    if "reasoning_effort" in taken:
        effort = taken.pop("reasoning_effort")
        fragments["reasoning_effort"] = {"reasoning": {"effort": effort} if effort else None}
    return {**fragments, **{name: {name: value} for name, value in taken.items()}}


def reader(model_name: str) -> Read:
    return _Reader(model_name).read


_PIECES = ("output_text.delta", "refusal.delta")
_PARTS = ("output_text.done", "refusal.done")
_ENDS = ("completed", "incomplete", "failed", "cancelled")
"""Types of events, and the states in which a response has ended."""


class _Reader:
    """Reads the events of a stream, or the complete response in place of one.

    A text is sent up to four times: in pieces, and at the end of its part, of its item and of the response.
    Servers leave some of them out, so each is read, without what an earlier one had.
    """

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self._seen: dict[tuple[str, object, object], str] = {}  # by text or refusal, item and part

    def read(self, data: Mapping[str, Any]) -> Chunk:
        """Read one event; those of thinking and of progress are empty chunks.

        Raises ``CallFailed`` for a response that failed, and for data in another form.
        """
        kind = outside.text(data.get("type")).removeprefix("response.")
        place = (data.get("output_index"), data.get("content_index"))
        if kind in _PIECES:
            piece = read_content(data.get("delta")).text
            is_text = kind == _PIECES[0]
            key = ("text" if is_text else "refusal", *place)
            self._seen[key] = self._seen.get(key, "") + piece
            return Chunk(piece) if is_text else Chunk(refusal=piece)
        if kind in _PARTS:
            part = Content(*(read_content(data.get(name)).text for name in Content._fields))
            return self._rest([(*place, part)])
        if kind == "output_item.done":
            return self._rest(_parts([data.get("item")], place[0]))
        if kind in _ENDS or data.get("object") == "response":
            response = data.get("response", data)
            return self._end(response if isinstance(response, dict) else {}, kind)
        return Chunk()

    def _end(self, response: Mapping[str, Any], kind: str) -> Chunk:
        """The state of a response, its counts, and what is new in it."""
        status = outside.text(response.get("status")) or kind
        if isinstance(error := response.get("error"), dict):
            raise error_event(error)
        reason = outside.text(outside.at(response, "incomplete_details", "reason"))
        broken = status == "incomplete" and reason.lower() not in {*LENGTH, *REFUSED}
        if broken or status in ("failed", "cancelled"):
            raise CallFailed("server", f"the response is {status}" + (f": {reason}" if reason else ""))
        usage = response.get("usage")
        rest = self._rest(_parts(response.get("output")))
        return rest._replace(
            finish_reason=reason if status == "incomplete" else status if status == "completed" else None,
            usage=chat.read_usage(_as_chat(usage), self._model_name) if isinstance(usage, dict) else None,
        )

    def _rest(self, parts: Iterable[tuple[object, object, Content]]) -> Chunk:
        """What has not been read of complete parts. Raises ``CallFailed`` if pieces of one are missing."""
        new = dict.fromkeys(Content._fields, "")
        for item, number, content in parts:
            for name, whole in content._asdict().items():
                read = _joined(self._seen.get((name, item, number), ""))
                known = _joined("".join(text for key, text in self._seen.items() if key[0] == name))
                if whole in known:
                    continue
                if not whole.startswith(read):
                    raise CallFailed("garbage", "the text of the answer is not that of its pieces")
                self._seen[name, item, number] = whole
                new[name] += whole[len(read) :]
        return Chunk(new["text"], refusal=new["refusal"])


def _parts(items: object, first: object = 0) -> Iterator[tuple[object, object, Content]]:
    """The parts of the messages among ``items``, with the numbers of item and part."""
    for index, item in enumerate(read_objects(items, "output"), first if isinstance(first, int) else 0):
        if item.get("type", "message") == "message":
            content = item.get("content")
            for number, part in enumerate(content if isinstance(content, list) else [content]):
                yield index, number, read_content(part)


def _joined(pieces: str) -> str:
    """A text whose surrogate pairs were cut in two, in whole letters."""
    return pieces.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _as_chat(usage: Mapping[str, Any]) -> Mapping[str, Any]:
    """The counts under the names of chat completions."""
    names = {
        "input_tokens": "prompt_tokens",
        "output_tokens": "completion_tokens",
        "input_tokens_details": "prompt_tokens_details",
        "output_tokens_details": "completion_tokens_details",
    }
    return {names.get(name, name): value for name, value in usage.items()}
