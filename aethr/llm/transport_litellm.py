"""Calls through LiteLLM: the only file that imports it, and only when a call is about to be made.

The settings, and why each is needed, were measured with 1.106.2. LiteLLM reports an answer that was cut
off cleanly as complete, so how an answer ended is read from what the provider itself sent.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import inspect
import json
import logging
import os
import re
import threading
from collections.abc import Collection, Generator, Iterator, Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from aethr.base import outside
from aethr.base.providers import litellm_name, provider_of
from aethr.base.records import Usage
from aethr.llm import (
    FINISHED,
    Alive,
    Call,
    CallFailed,
    Chunk,
    chat,
    connection,
    dropped,
    ollama,
    prices,
    sse,
)
from aethr.llm.exchange import Answer, Exchange
from aethr.llm.failures import failure_of
from aethr.llm.prices import lookup
from aethr.llm.protocols import Spoken, spoken_at

ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else a blocking download
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",  # the same
    "LITELLM_MODE": "PRODUCTION",  # else it loads a .env it finds above its own folder
    "LITELLM_LOG": "CRITICAL",  # an unknown word there crashes the import
}
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_LOADING = threading.Lock()
_EVENTS = re.compile(r"/messages$|:streamGenerateContent$|:streamRawPredict$")
"""Paths whose answers are objects in events: Anthropic's and Gemini's."""


def load() -> ModuleType:
    """LiteLLM, quiet and offline; the first call takes about two seconds. Safe from any thread."""
    with _LOADING:
        return _loaded()


@functools.cache
def _loaded() -> ModuleType:
    with _environment(), _without_collector():
        litellm = importlib.import_module("litellm")
        headers = importlib.import_module("litellm.anthropic_beta_headers_manager")
        headers.get_provider_name("anthropic")  # it reads its variable at first use and keeps the answer
    settings = {
        "suppress_debug_info": True,
        "disable_streaming_logging": True,
        "disable_hf_tokenizer_download": True,
        "disable_token_counter": True,  # a missing usage stays missing
        "REPEATED_STREAMING_CHUNK_LIMIT": 10**9,
    }
    for name, value in settings.items():
        setattr(litellm, name, value)
    _hook(litellm)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        logging.getLogger(name).propagate = False
    return litellm


def _hook(litellm: ModuleType) -> None:
    """Give every client that LiteLLM makes our hooks, and let it follow no redirect.

    A prompt goes where the operator sends it, not where an answer points, and by our own reading of the
    proxies, for which see ``routed``. There is no setting for any of it (undocumented attributes; the tests
    pin them).
    """
    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    handler = handlers.HTTPHandler
    create = handler.create_client

    def transport(handler: Any) -> Any:
        verify = handlers.get_ssl_configuration(handler.ssl_verify)
        cert = os.getenv("SSL_CERTIFICATE", litellm.ssl_certificate)
        return connection.transport(verify, cert=cert)

    def hooked(self: Any) -> Any:
        client = create(self)
        client.follow_redirects = False
        client.event_hooks = {"request": [_sending], "response": [_arrived]}
        return client

    handler._create_sync_transport = transport  # noqa: SLF001
    handler.create_client = hooked
    litellm.client_session = handler().client  # type: ignore[attr-defined]  # what OpenAI's SDK calls with


_EXCHANGE: ContextVar[Exchange | None] = ContextVar("_EXCHANGE", default=None)
"""That of the call which this thread makes."""
_ASIDE = "/api/show"
"""What LiteLLM asks Ollama about a model that it has not seen, before a call and while it goes on."""


def _sending(request: Any) -> None:
    exchange = _EXCHANGE.get()
    if exchange is not None and not request.url.path.endswith(_ASIDE):
        exchange.sending(request)


def _arrived(response: Any) -> None:
    exchange, path = _EXCHANGE.get(), response.request.url.path
    if exchange is None or path.endswith(_ASIDE):
        return
    exchange.arrived(response)
    if not exchange.call.stream and spoken_at(path) is not None:
        exchange.read()
        raise _TakenError


class _TakenError(Exception):
    """An answer that came whole has been read: LiteLLM, which would read any length, needs no part of it."""


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set what LiteLLM reads while it is imported, and take it away again."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """The collector costs 0.4 s of the import, and again at exit unless what was imported is frozen."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        gc.freeze()


def providers() -> Collection[str]:
    """The provider names that LiteLLM serves, as it spells them."""
    return frozenset(str(getattr(name, "value", name)) for name in load().provider_list)


def count_tokens(model_name: str, text: str) -> int:
    """Tokens of ``text`` by the best tokenizer at hand for ``provider:model``."""
    return len(load().encode(model=litellm_name(model_name), text=text))


class LiteLLM:
    """The transport for every provider."""

    name = "litellm"

    def load(self) -> None:
        load()

    def open(self, call: Call, alive: Alive) -> Answer | LiteLLMStream:
        """What comes in a protocol that is known here is read here, as in a direct call.

        The rest of it LiteLLM reads, from a stream without what it cannot read.
        """
        litellm, exchange = load(), Exchange(call, alive)
        stream = source = None
        token = _EXCHANGE.set(exchange)
        try:
            stream = litellm.completion(**_arguments(call))
            source = stream.fetch_sync_stream()
        except Exception as error:
            if not exchange.is_read:
                raise failure_of(error, litellm, exchange.failure) from error
        finally:
            _EXCHANGE.reset(token)
        response = exchange.response = _response(source) or exchange.response
        protocol = spoken_at(response.request.url.path) if response is not None else None
        if response is None or protocol is None or (response.is_stream_consumed and not exchange.is_read):
            return LiteLLMStream(call, exchange, stream, source)
        read = functools.partial(_read, protocol, call.model.name)
        return Answer(exchange, read, response.close, _dropped(call, response))


def _read(protocol: Spoken, model_name: str, data: dict[str, Any]) -> Chunk:
    """Counted as everywhere; where a price has rules that are not known here, LiteLLM applies them."""
    chunk = protocol.chunk(data, model_name)
    if chunk.usage is None or prices.understood(model_name):
        return chunk
    litellm = load()
    try:
        counted = litellm.Usage(**data["usage"])
    except Exception:  # noqa: BLE001 - whatever Pydantic says of what a server sent
        return chunk
    return chunk._replace(usage=chunk.usage._replace(cost_usd=_cost(litellm, model_name, counted)))


class LiteLLMStream:
    """One answer as LiteLLM reads it, with its end as the provider sent it."""

    def __init__(self, call: Call, exchange: Exchange, stream: Any, source: Any) -> None:
        self._call = call
        self._exchange = exchange
        self._stream = stream
        self._ending = _watch(exchange, stream, source)

    def chunks(self) -> Generator[Chunk, None, None]:
        litellm, response = load(), self._exchange.response
        usage = None
        try:
            yield from _dropped(self._call, response)
            for part in self._stream:
                usage = getattr(part, "usage", None) or usage
                yield Chunk(_text(part))
        except Exception as error:
            yield Chunk(finish_reason=self._ending.reason)
            raise failure_of(error, litellm, self._exchange.failure) from error
        finally:
            if response is not None:  # left to the garbage collector it would be closed inside a later call
                response.close()
        yield Chunk(finish_reason=self._reason(), usage=_usage(litellm, self._call.model.name, usage))

    def _reason(self) -> str | None:
        """LiteLLM's own word only counts for a protocol that we cannot read."""
        if self._ending.readable:
            return self._ending.reason
        return self._stream.received_finish_reason or self._stream.intermittent_finish_reason or None

    def hang_up(self) -> None:
        self._exchange.hang_up()


class Ending:
    """How the provider ended its answer, in its own word; None when it never said so.

    LiteLLM turns ``data: [DONE]``, words that it does not know and some errors into ``stop``.
    ``readable`` is True once what arrived was in a protocol whose words are known here.
    """

    _KNOWN = re.compile(r'"(?:choices|candidates|message_start|done)"')
    _WORD = re.compile(r'"(?:finish_reason|finishReason|stop_reason|done_reason)"\s*:\s*"([^"\\]+)"')

    def __init__(self) -> None:
        self.reason: str | None = None
        self.readable = False

    def of_lines(self, lines: Iterator[str | bytes]) -> Iterator[str | bytes]:
        """The raw lines, unchanged. In JSON a quote inside of a text is escaped, so no text can match."""
        for line in lines:
            raw = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
            self.readable = self.readable or self._KNOWN.search(raw) is not None
            found = self._WORD.search(raw)
            if found is not None:
                self.readable = True
                self._take(found.group(1))
            yield line

    def _take(self, reason: str | None) -> None:
        """A later word forgives no cut."""
        if reason and (self.reason is None or self.reason.lower() in FINISHED):
            self.reason = reason

    def of_chunks(self, chunks: Iterator[Any]) -> Iterator[Any]:
        """An SDK's chunk objects, unchanged."""
        for chunk in chunks:
            self.readable = self.readable or hasattr(chunk, "choices")
            for choice in getattr(chunk, "choices", None) or ():
                self._take(getattr(choice, "finish_reason", None))
            yield chunk


def _response(source: Any) -> Any:
    """The HTTP response behind a stream: an attribute, or the owner of its generator of lines."""
    lines = getattr(source, "streaming_response", None)
    if inspect.isgenerator(lines):
        return inspect.getgeneratorlocals(lines).get("self")
    return getattr(source, "response", None)


def _watch(exchange: Exchange, stream: Any, source: Any) -> Ending:
    """Stand between LiteLLM and what it reads (undocumented attributes; the tests pin them).

    Its lines come from httpx, which cuts them at letters that may stand in a text.
    """
    ending = Ending()
    if hasattr(source, "streaming_response"):
        lines = source.streaming_response
        if exchange.response is not None and inspect.isgenerator(lines) and lines.__name__ == "iter_lines":
            lines = _lines(exchange, exchange.response)
        source.streaming_response = source.response_iterator = ending.of_lines(iter(lines))
    elif hasattr(source, "__next__"):
        stream.completion_stream = ending.of_chunks(source)
    return ending


def _lines(exchange: Exchange, response: Any) -> Iterator[str]:
    """Anthropic's and Gemini's answers without heartbeats, errors and broken pieces; others as they are."""
    if not _EVENTS.search(response.request.url.path):
        for line in sse.lines(exchange.body()):
            yield line.decode("utf-8", "replace")
        return
    for data in exchange.objects():
        with exchange.watching():
            _blocked(data)
        for event in _unfolded(data):
            yield f"data: {json.dumps(event)}"


def _blocked(data: Mapping[str, Any]) -> None:
    """Gemini answers a prompt that it will not take without a candidate."""
    if reason := outside.at(data, "promptFeedback", "blockReason"):
        raise CallFailed("content_filter", f"the prompt was blocked: {reason}")


def _unfolded(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An answer of Anthropic's that came whole, as the events of a stream; any other object as it is."""
    if data.get("type") != "message":
        yield data
        return
    text = chat.said(data.get("content")).text
    usage = data.get("usage")
    start = {"type": "text", "text": ""}
    yield {"type": "message_start", "message": {**data, "content": [], "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": start}
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": data.get("stop_reason")}, "usage": usage}
    yield {"type": "message_stop"}


def _arguments(call: Call) -> dict[str, Any]:
    settings = {
        "temperature": call.model.temperature,
        "seed": call.model.seed,
        # LiteLLM itself translates it for the names alone that it knows.
        chat.limit_name(call): call.max_tokens,
        "api_key": call.endpoint.key,
        "api_base": call.endpoint.base,
    }
    return {
        "model": litellm_name(call.model.name),
        "messages": [{"role": "user", "content": call.prompt}],
        "stream": call.stream,
        "timeout": connection.timeout(call.deadlines),
        "max_retries": 0,
        "drop_params": True,
        **{name: value for name, value in settings.items() if value is not None},
        **_extra(call),
    }


def _extra(call: Call) -> dict[str, Any]:
    if provider_of(call.model.name).protocol == "ollama":
        return {"num_ctx": ollama.window(call), "extra_body": dict(ollama.WHOLE_PROMPT)}
    return {"stream_options": {"include_usage": True}} if call.stream else {}


def _dropped(call: Call, response: Any) -> Iterator[Chunk]:
    """By the request that LiteLLM sent, where it can be read.

    In JSON a quote inside of a text is escaped, so no prompt can look like a setting.
    """
    if response is not None:
        sent = re.findall(rb'"(temperature|seed)"\s*:', response.request.read())
        yield from dropped(call, [name.decode() for name in sent])


def _text(part: Any) -> str:
    choice = next(iter(part.choices), None)
    return (choice.delta.content or "") if choice is not None else ""


def _usage(litellm: ModuleType, model_name: str, usage: Any) -> Usage | None:
    """None where the provider counted nothing: LiteLLM then says zero."""
    if usage is None or not usage.total_tokens:
        return None
    asked = outside.count(usage.prompt_tokens) or None
    answered = outside.count(usage.completion_tokens) or None
    whole = asked is not None and answered is not None
    return Usage(
        asked,
        answered,
        outside.count(usage.total_tokens) if whole else None,
        _cost(litellm, model_name, usage) if whole else None,
    )


def _cost(litellm: ModuleType, model_name: str, usage: Any) -> float | None:
    """US dollars as the provider states them, else by LiteLLM's prices: cached tokens, long prompts."""
    stated = prices.stated(model_name, dict(usage))
    if stated is not None:
        return stated
    price = lookup(model_name)
    if price is None or price.input_usd is None:
        return None
    try:
        return float(sum(litellm.cost_per_token(model=litellm_name(model_name), usage_object=usage)))
    except Exception:  # noqa: BLE001 - for a model it cannot price it raises Exception itself
        return prices.cost(model_name, prices.Tokens(usage.prompt_tokens, usage.completion_tokens))
