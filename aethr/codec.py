"""Step results to JSON and back: the shape that the run record and the checkpoint share (DESIGN 12).

Reading is strict: a value of the wrong type is a ``ValueError`` with one line that says where it is and
what was expected. Unknown keys are ignored, so that a newer Aethr's file can be read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from aethr.records import Artifacts, CommandCheck, Receipt, StepResult, Usage

_Word = TypeVar("_Word", bound=str)

# Valid in a JSON string as they are, but not for UTF-8 (surrogates) or for a terminal (the others).
_ESCAPED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def dumps(value: object) -> str:
    """JSON text, two spaces of indentation, keys in their order, a newline at the end.

    Not ASCII only, but free of what UTF-8 cannot hold and a terminal would obey. Lossless.
    Raises ``ValueError`` for NaN and infinities.
    """
    return _harmless(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)) + "\n"


def line(value: object) -> str:
    """JSON text as ``dumps`` gives it, on one line."""
    return _harmless(json.dumps(value, ensure_ascii=False, allow_nan=False)) + "\n"


def _harmless(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def step_to_json(step: StepResult) -> dict[str, Any]:
    """A step as the run record and the checkpoint hold it: the names of the keys are those of the fields.

    ``artifacts`` is null for a model step.
    """
    artifacts, check = step.artifacts, step.check
    return {
        **step._asdict(),
        "usage": step.usage._asdict(),
        "context": [receipt._asdict() for receipt in step.context],
        "artifacts": None if artifacts is None else _artifacts_to_json(artifacts),
        "notes": list(step.notes),
        "check": None if check is None else check._asdict(),
    }


def step_from_json(value: object) -> StepResult:
    """The reverse of ``step_to_json``. Raises ``ValueError`` for anything of another shape."""
    data = an_object(value, "a step")
    return StepResult(
        id=text(data, "id"),
        role=text(data, "role"),
        backend=text(data, "backend"),
        model=optional_text(data, "model"),
        iteration=_count(data, "iteration", least=1),
        prompt_sha256=text(data, "prompt_sha256"),
        content=text(data, "content"),
        finish_reason=text(data, "finish_reason"),
        truncated=_flag(data, "truncated"),
        seconds=_amount(data, "seconds"),
        calls=_count(data, "calls"),
        transport=text(data, "transport"),
        usage=_usage(mapping(data, "usage")),
        context=tuple(_receipt(item) for item in sequence(data, "context")),
        artifacts=_artifacts(data.get("artifacts")),
        notes=_texts(data, "notes"),
        check=_check(data.get("check")),
        cut_prompt=optional_text(data, "cut_prompt"),
        verdict_from=_count(data, "verdict_from") if "verdict_from" in data else 0,
        over_limit=optional_text(data, "over_limit"),
        skipped=optional_text(data, "skipped"),
    )


def step_from_seed(value: object) -> StepResult:
    """A step result of the seed form: ``step_id``, ``content``; maybe ``metadata``, ``artifacts``, ``usage``.

    It names neither role nor backend unless its metadata do; both are empty then, for the reader to fill.
    """
    data = an_object(value, "a step")
    metadata = mapping(data, "metadata") if data.get("metadata") is not None else {}
    usage = mapping(data, "usage") if data.get("usage") is not None else {}
    return StepResult(
        id=text(data, "step_id"),
        role=optional_text(metadata, "role") or "",
        backend=optional_text(metadata, "backend") or "",
        model=optional_text(metadata, "model"),
        iteration=1,
        prompt_sha256="",
        content=text(data, "content"),
        usage=Usage(
            prompt_tokens=_optional_count(usage, "prompt_tokens"),
            completion_tokens=_optional_count(usage, "completion_tokens"),
            total_tokens=_optional_count(usage, "total_tokens"),
            cost_usd=_optional_amount(usage, "cost_usd"),
        ),
        artifacts=_seed_artifacts(data.get("artifacts")),
    )


def an_object(value: object, name: str) -> dict[str, object]:
    """``value``, which a mistake calls ``name``, as an object."""
    if isinstance(value, dict):
        return value
    raise _mistake(name, "an object", value)


def text(data: Mapping[str, object], key: str) -> str:
    value = _required(data, key, "text")
    if isinstance(value, str):
        return value
    raise _mistake(key, "text", value)


def optional_text(data: Mapping[str, object], key: str) -> str | None:
    return None if data.get(key) is None else text(data, key)


def choice(data: Mapping[str, object], key: str, words: Sequence[_Word]) -> _Word:
    """One of ``words``."""
    value = _required(data, key, "text")
    for word in words:
        if value == word:
            return word
    raise _mistake(key, f"one of {', '.join(words)}", value)


def optional_flag(data: Mapping[str, object], key: str) -> bool:
    return data.get(key) is not None and _flag(data, key)


def sequence(data: Mapping[str, object], key: str) -> list[object]:
    value = _required(data, key, "an array")
    if isinstance(value, list):
        return value
    raise _mistake(key, "an array", value)


def mapping(data: Mapping[str, object], key: str) -> dict[str, object]:
    return an_object(_required(data, key, "an object"), f"'{key}'")


def _artifacts_to_json(artifacts: Artifacts) -> dict[str, Any]:
    lists = ("changed_files", "unseen", "generated")
    return {**artifacts._asdict(), **{name: list(getattr(artifacts, name)) for name in lists}}


def _check(value: object) -> CommandCheck | None:
    if value is None:
        return None
    data = an_object(value, "check")
    return CommandCheck(text(data, "command"), _flag(data, "passed"), text(data, "ended"))


def _usage(data: Mapping[str, object]) -> Usage:
    return Usage(
        prompt_tokens=_count_or_null(data, "prompt_tokens"),
        completion_tokens=_count_or_null(data, "completion_tokens"),
        total_tokens=_count_or_null(data, "total_tokens"),
        cost_usd=_optional_amount(data, "cost_usd"),
        estimated="estimated" in data and _flag(data, "estimated"),
    )


def _receipt(value: object) -> Receipt:
    data = an_object(value, "an entry of 'context'")
    return Receipt(
        source=text(data, "source"),
        path=optional_text(data, "path"),
        bytes_sent=_count(data, "bytes_sent"),
        bytes_omitted=_count(data, "bytes_omitted"),
        sha256=optional_text(data, "sha256"),
        note=optional_text(data, "note"),
        complete=_flag(data, "complete"),
        changed_lines=_count(data, "changed_lines"),
        sent_lines=_count(data, "sent_lines"),
    )


def _artifacts(value: object) -> Artifacts | None:
    if value is None:
        return None
    data = an_object(value, "'artifacts'")
    return Artifacts(
        changed_files=_texts(data, "changed_files"),
        diff_stat=text(data, "diff_stat"),
        git_diff=text(data, "git_diff"),
        unseen=_texts(data, "unseen") if "unseen" in data else (),  # older checkpoints have neither
        generated=_texts(data, "generated") if "generated" in data else (),
    )


def _seed_artifacts(value: object) -> Artifacts | None:
    """The seed form has an empty object where a step changed nothing, and may leave out any part."""
    if value is None:
        return None
    data = an_object(value, "'artifacts'")
    if not data:
        return None
    return Artifacts(
        changed_files=_texts(data, "changed_files") if "changed_files" in data else (),
        diff_stat=optional_text(data, "diff_stat") or "",
        git_diff=optional_text(data, "git_diff") or "",
    )


def _texts(data: Mapping[str, object], key: str) -> tuple[str, ...]:
    items = sequence(data, key)
    for item in items:
        if not isinstance(item, str):
            raise _mistake(key, "an array of text", item)
    return tuple(item for item in items if isinstance(item, str))


def _flag(data: Mapping[str, object], key: str) -> bool:
    value = _required(data, key, "true or false")
    if isinstance(value, bool):
        return value
    raise _mistake(key, "true or false", value)


def _count(data: Mapping[str, object], key: str, *, least: int = 0) -> int:
    expected = f"a whole number from {least}"
    value = _required(data, key, expected)
    # Nothing that is counted here comes near 2**53, the most that JSON readers agree on.
    if isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 53:
        return value
    raise _mistake(key, expected, value)


def _count_or_null(data: Mapping[str, object], key: str) -> int | None:
    return None if key in data and data[key] is None else _count(data, key)


def _optional_count(data: Mapping[str, object], key: str) -> int | None:
    return None if data.get(key) is None else _count(data, key)


def _amount(data: Mapping[str, object], key: str) -> float:
    value = _required(data, key, "a number from 0")
    if isinstance(value, float) and math.isfinite(value) and value >= 0:
        return value
    if isinstance(value, int):
        return float(_count(data, key))
    raise _mistake(key, "a number from 0", value)


def _optional_amount(data: Mapping[str, object], key: str) -> float | None:
    return None if data.get(key) is None else _amount(data, key)


def _required(data: Mapping[str, object], key: str, expected: str) -> object:
    if key not in data:
        raise ValueError(f"'{key}' is missing; expected {expected}")
    return data[key]


def _mistake(name: str, expected: str, value: object) -> ValueError:
    where = name if " " in name or name.startswith("'") else f"'{name}'"
    return ValueError(f"{where}: expected {expected}, found {_kind(value)}")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number out of range" if _odd(value) else f"the number {value}"
    return {"str": "text", "list": "an array", "dict": "an object"}[type(value).__name__]


def _odd(number: float) -> bool:
    return not -(1 << 53) < number < 1 << 53
