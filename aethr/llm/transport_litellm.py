"""Calls through LiteLLM: only this file imports it, and only when a call is about to be made.

Each setting was found necessary with LiteLLM 1.106.2. It reports an answer that was cut off cleanly as
complete, so the finish reason is read from what the provider itself sent.
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
    Read,
    connection,
    note_dropped,
    spending,
    sse,
)
from aethr.llm.exchange import Exchange, ProtocolStream
from aethr.llm.failures import failure_of
from aethr.llm.protocols import chat, ollama, protocol_at
from aethr.llm.protocols.content import read_content

ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise a blocking download
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",  # the same
    "LITELLM_MODE": "PRODUCTION",  # otherwise it loads a .env from above its own folder
    "LITELLM_LOG": "CRITICAL",  # an unknown word there crashes the import
}
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_LOADING = threading.Lock()
_EVENTS = re.compile(r"/messages$|:streamGenerateContent$|:streamRawPredict$")
"""Paths whose answers are objects in events: those of Anthropic and Gemini."""


def load() -> ModuleType:
    """LiteLLM, quiet and offline; its import takes about two seconds. Safe from any thread."""
    with _LOADING:
        return _loaded()


@functools.cache
def _loaded() -> ModuleType:
    with _importing():
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


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Set what LiteLLM reads during its import, and the garbage collector off; restore both.

    The collector costs 0.4 s of the import, and again at exit unless what was imported is frozen.
    """
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    collecting = gc.isenabled()
    os.environ.update(ENVIRONMENT)
    gc.disable()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if collecting:
            gc.enable()
        gc.freeze()


def _hook(litellm: ModuleType) -> None:
    """Give our hooks and transport to every client that LiteLLM makes, and let it follow no redirect.

    A prompt goes to the operator's endpoint, not to the one that an answer names. ``routed`` says why the
    proxies are read by us. LiteLLM has no setting for any of this: these attributes are undocumented, and
    the tests pin them.
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
        client.event_hooks = {"request": [_prepare], "response": [_receive]}
        return client

    handler._create_sync_transport = transport  # noqa: SLF001
    handler.create_client = hooked
    litellm.client_session = handler().client  # type: ignore[attr-defined]  # what OpenAI's SDK calls with


_EXCHANGE: ContextVar[Exchange | None] = ContextVar("_EXCHANGE", default=None)
"""The exchange of the call that this thread makes."""
_ASIDE = "/api/show"
"""LiteLLM asks Ollama about each model that is new to it, before a call and during it."""


def _prepare(request: Any) -> None:
    exchange = _EXCHANGE.get()
    if exchange is not None and not request.url.path.endswith(_ASIDE):
        exchange.prepare(request)


def _receive(response: Any) -> None:
    exchange, path = _EXCHANGE.get(), response.request.url.path
    if exchange is None or path.endswith(_ASIDE):
        return
    exchange.receive(response)
    if not exchange.call.stream and protocol_at(path) is not None:
        exchange.read()
        raise _ReadError


class _ReadError(Exception):
    """A complete answer has been read here, so that LiteLLM, which has no limit on its length, does not."""


def providers() -> Collection[str]:
    """The provider names that LiteLLM serves, as it spells them."""
    return frozenset(str(getattr(name, "value", name)) for name in load().provider_list)


def count_tokens(model_name: str, text: str) -> int:
    """Tokens of ``text`` by LiteLLM's best tokenizer for ``provider:model``."""
    return len(load().encode(model=litellm_name(model_name), text=text))


class LiteLLM:
    """The transport for every provider."""

    name = "litellm"

    def load(self) -> None:
        load()

    def open(self, call: Call, alive: Alive) -> ProtocolStream | LiteLLMStream:
        """Answers in one of our own ``protocols`` are read as in a direct call.

        LiteLLM reads the others, from a stream that has been cleaned of what it cannot read.
        """
        litellm, exchange = load(), Exchange(call, alive)
        stream = source = None
        token = _EXCHANGE.set(exchange)
        try:
            stream = litellm.completion(**_arguments(call))
            source = stream.fetch_sync_stream()
        except Exception as error:
            if exchange.whole is None:
                raise failure_of(error, litellm, exchange.failure) from error
        finally:
            _EXCHANGE.reset(token)
        lines = getattr(source, "streaming_response", None)  # a generator of lines belongs to its response
        owned = inspect.getgeneratorlocals(lines).get("self") if inspect.isgenerator(lines) else None
        response = exchange.response = owned or getattr(source, "response", None) or exchange.response
        protocol = protocol_at(response.request.url.path) if response is not None else None
        if response is None or protocol is None or (response.is_stream_consumed and exchange.whole is None):
            return LiteLLMStream(call, exchange, stream, source)
        read = functools.partial(_read, protocol.reader(call.model.name), call.model.name)
        return ProtocolStream(exchange, read, response.close, _note_dropped(call, response))


def _read(read: Read, model_name: str, data: Mapping[str, Any]) -> Chunk:
    """Read an object; LiteLLM computes the cost if the price has rules that are not known here."""
    chunk = read(data)
    if chunk.usage is None or spending.understands_price(model_name):
        return chunk
    litellm = load()
    try:
        counted = litellm.Usage(**data["usage"])
    except Exception:  # noqa: BLE001 - whatever Pydantic raises for what a server sent
        return chunk
    return chunk._replace(usage=chunk.usage._replace(cost_usd=_cost(litellm, model_name, counted)))


class LiteLLMStream:
    """An answer as LiteLLM reads it, with the finish reason as the provider sent it."""

    def __init__(self, call: Call, exchange: Exchange, stream: Any, source: Any) -> None:
        self._call = call
        self._exchange = exchange
        self._stream = stream
        self._watcher = _watch(exchange, stream, source)

    def chunks(self) -> Generator[Chunk, None, None]:
        litellm, response = load(), self._exchange.response
        usage = None
        try:
            yield from _note_dropped(self._call, response)
            for part in self._stream:
                usage = getattr(part, "usage", None) or usage
                choice = next(iter(part.choices), None)
                yield Chunk((choice.delta.content or "") if choice is not None else "")
        except Exception as error:
            yield Chunk(finish_reason=self._watcher.reason)
            raise failure_of(error, litellm, self._exchange.failure) from error
        finally:
            if response is not None:  # the garbage collector would close it during a later call
                response.close()
        reason = self._watcher.reason
        if not self._watcher.readable:  # only then LiteLLM's own word counts
            reason = self._stream.received_finish_reason or self._stream.intermittent_finish_reason or None
        yield Chunk(finish_reason=reason, usage=_usage(litellm, self._call.model.name, usage))

    def hang_up(self) -> None:
        self._exchange.hang_up()


class FinishWatcher:
    """Reads the provider's own finish reason; ``reason`` is None if it never sent one.

    LiteLLM turns ``data: [DONE]``, words that it does not know and some errors into ``stop``.
    ``readable`` is True once data in a known protocol has arrived.
    """

    _KNOWN = re.compile(r'"(?:choices|candidates|message_start|done)"')
    _WORD = re.compile(r'"(?:finish_reason|finishReason|stop_reason|done_reason)"\s*:\s*"([^"\\]+)"')

    def __init__(self) -> None:
        self.reason: str | None = None
        self.readable = False

    def of_lines(self, lines: Iterator[str | bytes]) -> Iterator[str | bytes]:
        """The raw lines, unchanged. In JSON a quote within a text is escaped, so a text cannot match."""
        for line in lines:
            raw = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
            self.readable = self.readable or self._KNOWN.search(raw) is not None
            found = self._WORD.search(raw)
            if found is not None:
                self.readable = True
                self._take(found.group(1))
            yield line

    def _take(self, reason: str | None) -> None:
        """Keep a cut: a later word does not make the answer complete."""
        if reason and (self.reason is None or self.reason.lower() in FINISHED):
            self.reason = reason

    def of_chunks(self, chunks: Iterator[Any]) -> Iterator[Any]:
        """An SDK's chunk objects, unchanged."""
        for chunk in chunks:
            self.readable = self.readable or hasattr(chunk, "choices")
            for choice in getattr(chunk, "choices", None) or ():
                self._take(getattr(choice, "finish_reason", None))
            yield chunk


def _watch(exchange: Exchange, stream: Any, source: Any) -> FinishWatcher:
    """Put a watcher between LiteLLM and what it reads (undocumented attributes; the tests pin them).

    httpx's ``iter_lines`` is replaced: it also cuts lines at letters that may stand in a text (see ``sse``).
    """
    watcher = FinishWatcher()
    if hasattr(source, "streaming_response"):
        lines = source.streaming_response
        if exchange.response is not None and inspect.isgenerator(lines) and lines.__name__ == "iter_lines":
            lines = _lines(exchange, exchange.response)
        source.streaming_response = source.response_iterator = watcher.of_lines(iter(lines))
    elif hasattr(source, "__next__"):
        stream.completion_stream = watcher.of_chunks(source)
    return watcher


def _lines(exchange: Exchange, response: Any) -> Iterator[str]:
    """Anthropic's and Gemini's answers without heartbeats, errors and broken pieces; others unchanged."""
    if not _EVENTS.search(response.request.url.path):
        for line in sse.lines(exchange.body()):
            yield line.decode("utf-8", "replace")
        return
    for data in exchange.objects():
        # Gemini answers a prompt that it refuses without a candidate.
        if reason := outside.at(data, "promptFeedback", "blockReason"):
            with exchange.watching():
                raise CallFailed("content_filter", f"the prompt was blocked: {reason}")
        with exchange.watching():
            events = _stream_events(data) if data.get("type") == "message" else [data]
        for event in events:
            yield f"data: {json.dumps(event)}"


def _stream_events(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream that say the same as a complete answer of Anthropic's."""
    text = read_content(data.get("content")).text
    start = {"type": "text", "text": ""}
    end = {"stop_reason": data.get("stop_reason")}
    return [
        {"type": "message_start", "message": {**data, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": data.get("usage")},
        {"type": "message_stop"},
    ]


def _arguments(call: Call) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "temperature": call.model.temperature,
        "seed": call.model.seed,
        chat.limit_name(call): call.max_tokens,  # LiteLLM translates it only for models that it knows
        "api_key": call.endpoint.key,
        "api_base": call.endpoint.base,
    }
    if call.schema and "schema" not in call.left_out:
        form = {"format": {"type": "json_schema", "schema": call.schema}}
        argument = provider_of(call.model.name).litellm_schema
        settings |= {argument: form} if argument == "output_config" else chat.response_format(call)
    extra: dict[str, Any] = {"stream_options": {"include_usage": True}} if call.stream else {}
    if "ollama" in provider_of(call.model.name).protocols:
        extra = {"num_ctx": ollama.window(call), "extra_body": dict(ollama.WHOLE_PROMPT)}
    return {
        "model": litellm_name(call.model.name),
        "messages": [{"role": "user", "content": call.prompt}],
        "stream": call.stream,
        "timeout": connection.timeout(call.deadlines),
        "max_retries": 0,
        "drop_params": True,
        **{name: value for name, value in settings.items() if value is not None},
        **extra,
    }


def _note_dropped(call: Call, response: Any) -> Iterator[Chunk]:
    """Compare with the request that LiteLLM sent, if it can be read.

    In JSON a quote within a text is escaped, so a prompt cannot look like a setting.
    """
    if response is not None:
        body = response.request.read()
        sent = {name.decode() for name in re.findall(rb'"(temperature|seed)"\s*:', body)}
        keys = [name.encode() for name in call.schema["properties"]] if call.schema else []
        sent |= {"schema"} if any(b'"%s":' % key in body for key in keys) else call.left_out
        values = {"temperature": call.model.temperature, "seed": call.model.seed, "schema": call.schema}
        yield from note_dropped(
            call, [name for name in values if values[name] is not None and name not in sent]
        )


def _usage(litellm: ModuleType, model_name: str, usage: Any) -> Usage | None:
    """None if the provider counted nothing: LiteLLM then says zero."""
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
    stated = spending.stated_cost(model_name, dict(usage))
    if stated is not None:
        return stated
    price = spending.lookup(model_name)
    if price is None or price.input_usd is None:
        return None
    try:
        return float(sum(litellm.cost_per_token(model=litellm_name(model_name), usage_object=usage)))
    except Exception:  # noqa: BLE001 - for a model it cannot price it raises Exception itself
        return spending.cost(model_name, spending.Tokens(usage.prompt_tokens, usage.completion_tokens))
