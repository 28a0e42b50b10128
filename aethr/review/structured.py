"""A review as JSON by a schema (``answer: schema``), and its text form (pure).

Each provider has its own way to ask for JSON by a schema. A valid answer is turned into the form of the
contract: the reader, the record and the gate are those of every other review. The text form counts only if
the reader finds in it exactly what the JSON says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aethr.base import outside
from aethr.base.records import SEVERITIES, AnswerForm, Finding, ReviewStatus, Severity
from aethr.review import answer, findings, rendered
from aethr.review.places import resolve
from aethr.review.quoted import dedent

BEGINS = "{[`\ufeff"
"""What an answer in JSON can begin with, perhaps as a block of code, or with a byte order mark."""

_NULL = {"type": "null"}
_NULL_TEXT = {"anyOf": [{"type": "string"}, _NULL]}
_NULL_NUMBER = {"anyOf": [{"type": "integer"}, _NULL]}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMA: dict[str, Any] = _object({
    "findings": {
        "type": "array",
        "items": _object({
            "severity": {"type": "string", "enum": list(SEVERITIES)},
            "path": _NULL_TEXT,
            "line": _NULL_NUMBER,
            "end_line": _NULL_NUMBER,
            "message": {"type": "string"},
            "evidence": _NULL_TEXT,
            "suggestion": _NULL_TEXT,
        }),
    },
    "verdict": {"type": "string", "enum": ["pass", "revise"]},
})  # fmt: skip
"""Only what OpenAI, Anthropic, Gemini, vLLM and Ollama all take: no limits, and every key is required.

https://developers.openai.com/api/docs/guides/structured-outputs#supported-schemas,
https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
"""

FORM = """\
If this request has a JSON schema for the answer, say the same as one JSON object by that schema instead, and
nothing else: under "findings" for each one its "severity", "path", "line", "end_line", "message" (one plain
paragraph), "evidence" (the lines that it is about, exactly as they stand) and "suggestion" (the lines to put
in place of exactly these), with null for what it does not have; then the "verdict", pass or revise. Without
such a schema, answer in the form above."""
"""What a prompt says after the contract, so that it also fits a model that was not given the schema."""


class Read(NamedTuple):
    """The text form of an answer, and ``schema`` if it came as valid JSON."""

    content: str
    form: AnswerForm


class _Entry(NamedTuple):
    """A finding of the JSON, without what says nothing."""

    severity: Severity
    path: str | None
    line: int | None
    end_line: int | None
    message: str
    evidence: str | None
    suggestion: str | None


def read(content: str, redact: Callable[[str], str] = str) -> Read | None:
    """The text form of an answer that begins as JSON; None for any other answer, which is text.

    JSON that is cut, or not valid by the schema, becomes a block of code, so that nothing in it is read as a
    finding or a verdict. ``redact`` removes keys, which JSON can escape, from the values.
    """
    plain = content.strip("\ufeff \t\r\n")
    head, _, rest = plain.partition("\n")
    if re.fullmatch(r"```(?:json)?\s*", head) and rest.endswith("```"):
        plain = rest.removesuffix("```").strip()
    if not re.match(r"\{|\[\s*\{", plain):
        return None
    try:
        value = outside.json_value(plain, unique=True)
    except ValueError:
        value = None
    if _fits(value, SCHEMA):
        entries = [_make_entry(each, redact) for each in value["findings"]]
        for escaped in (False, True):
            text = _write(entries, value["verdict"], escaped=escaped)
            if text is not None:
                return Read(text, "schema")
    return Read("\n".join(_fence(plain, "json")), "text")


_TYPES: Mapping[str, type] = {"string": str, "integer": int, "null": type(None)}


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is valid by a schema with the keywords of ``SCHEMA``."""
    if "anyOf" in schema:
        return any(_fits(value, each) for each in schema["anyOf"])
    if "properties" in schema:
        own: Mapping[str, Any] = schema["properties"]
        of_object = isinstance(value, dict) and value.keys() == own.keys()
        return of_object and all(_fits(value[name], each) for name, each in own.items())
    if "items" in schema:
        return isinstance(value, list) and all(_fits(each, schema["items"]) for each in value)
    return type(value) is _TYPES[schema["type"]] and value in schema.get("enum", (value,))


def _make_entry(value: Mapping[str, Any], redact: Callable[[str], str]) -> _Entry:
    texts = {
        name: redact(re.sub(r"\r\n?", "\n", each)).replace("\0", "\ufffd")
        for name, each in value.items()
        if isinstance(each, str)
    }
    path = " ".join(texts.get("path", "").split()) or None
    line = value["line"] if path and 0 < (value["line"] or 0) < 10**9 else None
    end = value["end_line"] if line and line < (value["end_line"] or 0) < 10**9 else None
    code = [texts.get(name, "").removesuffix("\n") for name in ("evidence", "suggestion")]
    evidence, suggestion = (each if each.strip() else None for each in code)
    message = " ".join(texts["message"].split())
    return _Entry(value["severity"], path, line, end, message, evidence, suggestion)


# --- writing -----------------------------------------------------------------------------------


def _write(entries: Sequence[_Entry], verdict: ReviewStatus, *, escaped: bool) -> str | None:
    """The text form; None if the reader would not find exactly this in it.

    ``escaped`` allows for words that would be markup, and for a last message that ends with a colon.
    """
    parts: list[str] = []
    wanted: list[tuple[Finding, list[str]]] = []
    for each in entries:
        line, found = _write_item(each, escaped=escaped)
        if found is None and not _says_nothing(each):
            return None
        parts += ["", line] if parts and parts[-1].startswith("  ") else [line]
        for code, info in ((each.evidence, ""), (each.suggestion, "suggestion")):
            parts += ["", *(f"  {line}" for line in _fence(code, info))] if code is not None else []
        if found is not None:
            wanted.append((found, list(_read_codes(each))))
    parts += [""] if parts else []
    parts += ["These are all findings.", ""] if parts and escaped else []
    text = "\n".join([*parts, f"Review status: {verdict}"])
    lines = answer.read_lines(text)
    seen = [
        (each, [code.readings[0] for code in codes])
        for each, codes in findings.read_findings(lines, answer.NO_GROUND)
    ]
    gates = verdict == "revise" or any(found.severity != "low" for found, _ in wanted)
    stated = "revise" if gates else "pass"
    return text if seen == wanted and answer.parse(text, answer.NO_GROUND).status == stated else None


def _write_item(entry: _Entry, *, escaped: bool) -> tuple[str, Finding | None]:
    """The line of a finding, and what the reader finds in it; None if that has another severity.

    The first way to write it counts that is read exactly, or else the first that is read at all.
    """
    second: tuple[str, Finding] | None = None
    for said in _iterate_ways(entry, escaped=escaped):
        item = f"- [{entry.severity}] {said.strip()}"
        found = _read_item(item)
        if found is None and _says_nothing(entry):
            return item, None
        if found is not None and found.severity == entry.severity:
            if _is_said(found, entry):
                return item, found
            second = second or (item, found)
    return second or (item, None)


def _iterate_ways(entry: _Entry, *, escaped: bool) -> Iterator[str]:
    """How to write a finding behind its severity, the plainest way first."""
    message, path = entry.message, entry.path
    lines = "" if entry.line is None else f":{entry.line}" + (f"-{entry.end_line}" if entry.end_line else "")
    if not escaped:
        yield f"{path}{lines} — {message}" if path else message
    marked = _escape(message)
    if path:
        yield (f"`{path}`" if "`" not in path else _escape(path)) + f"{lines} — {marked}"
        yield f"{marked} ({_escape(path)}{lines})"
    else:
        yield f"— {marked}"
        yield f"Finding: {marked}"


def _read_item(item: str) -> Finding | None:
    """The finding of an item, if it is one line with one finding."""
    lines = rendered.read_lines(item)
    read = [each for each, _ in findings.read_findings(lines, answer.NO_GROUND)]
    return read[0] if len(lines) == len(read) == 1 and isinstance(read[0], Finding) else None


def _is_said(found: Finding, entry: _Entry) -> bool:
    """Whether the reader has found the words and the place of an entry, which may be in its words."""
    said = entry.message.lstrip(":—–-|→, ").strip()
    if entry.path is None:
        return said.endswith(found.message)
    place = resolve(entry.path, answer.NO_GROUND), entry.line, entry.end_line
    return (found.path, found.line, found.end_line) == place and found.message == said


def _says_nothing(entry: _Entry) -> bool:
    """Whether the reader leaves such words out: "none", what is fixed, the example of the contract."""
    probe = f"- [{entry.severity}] a/b.c:1 — {_escape(entry.message)}"
    return findings.is_none(entry.message) or _read_item(probe) is None


def _read_codes(entry: _Entry) -> Iterator[str]:
    """The code of an entry as it is read; a suggestion keeps its indentation."""
    if entry.evidence is not None:
        yield "\n".join(dedent(entry.evidence.split("\n"))[0])
    if entry.suggestion is not None:
        yield entry.suggestion


def _fence(code: str, info: str) -> list[str]:
    """The lines of a fenced block, which nothing in the code can end."""
    longest = max(map(len, re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return [fence + info, *code.split("\n"), fence]


_MARKUP = re.compile(r"[\\`*_\[\]<>&~◁]")
_ENTITIES = {"<": "&lt;", "[": "&#91;", "&": "&amp;", "◁": "&#9665;"}
"""For what a tag of thinking begins with, and for brackets, of which a paragraph can have only a few."""


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKUP.sub(lambda match: _ENTITIES.get(match[0], "\\" + match[0]), text)
