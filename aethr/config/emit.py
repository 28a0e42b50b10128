"""``WorkflowSpec`` -> YAML text in the style of the presets, exact on the way back (``config.parse``).

Each text takes the first of these forms that holds it to the byte: literal (several lines that fit),
folded (words that can be wrapped), double-quoted. No line that is made here is longer than ``WIDTH``,
where the file's own names allow it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from aethr.config.schema import CONTEXT_CHARS, MODELINE
from aethr.records import ModelSpec, StepSpec, WorkflowSpec

WIDTH = 100

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]*(?<!:)")
_NOT_TEXT = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_BETWEEN_WORDS = re.compile(r"(?<=\S) (?=\S)")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_HEADER = "# Saved by `aethr run --save`. `aethr check` explains this file."


def text(spec: WorkflowSpec) -> str:
    """The whole file. What the file of ``spec`` says in comments at its head and of its steps is kept."""
    sections = (
        [*_header(spec), *_text("workflow", spec.name, 0, inline=True)],
        ["roles:", *_each(_text(role, guidance, 2) for role, guidance in spec.roles.items())],
        _models(spec.models),
        ["steps:", *_separated(_step(spec, number) for number in range(len(spec.steps)))],
        _limits(spec),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _header(spec: WorkflowSpec) -> list[str]:
    kept: list[str] = []
    for line in spec.lines:
        if not _is_comment(line):
            break
        kept.append(line)
    return kept or [MODELINE, _HEADER]


def _models(models: Mapping[str, ModelSpec]) -> list[str]:
    if not models:
        return ["# No models are named here: --model or AETHR_MODEL says which."]
    lines = ["models: # called with AETHR_LIVE=1; --model or AETHR_MODEL overrides"]
    for role, model in models.items():
        settings = [
            (name, getattr(model, name))
            for name in ("temperature", "seed", "max_tokens", "timeout_s")
            if getattr(model, name) is not None
        ]
        if settings:
            lines += _mapping(role, [("model", model.name), *settings], 2)
        else:
            lines += _text(role, model.name, 2, inline=True)
    return lines


def _step(spec: WorkflowSpec, number: int) -> list[str]:
    step = spec.steps[number]
    above, beside = _comments(spec, number)
    if step.reviewing and not (above or beside):
        beside = "answers with findings and a verdict"
    return [
        *above,
        _noted(f"  - id: {_word(step.id)}", beside),
        *_text("role", step.role, 4, inline=True),
        *_context(step.context),
        *_settings(step),
        *_repeat(step),
        *(_limit(step.context_chars, 4) if _sizes_differ(spec) else ()),
    ]


def _context(sources: Sequence[str]) -> list[str]:
    if not sources:
        return []
    line = f"    context: [{', '.join(map(_word, sources))}]"
    if len(line) <= WIDTH:
        return [line]
    return ["    context:", *(f"      - {_word(source)}" for source in sources)]


def _settings(step: StepSpec) -> Iterator[str]:
    if step.backend != "model":
        yield _noted(f"    backend: {_word(step.backend)}", f"needs the {step.backend} command")
    if step.unsafe_permissions:
        yield _noted("    unsafe_permissions: true", "lets the agent run any command without asking")
    if step.history_visibility != "all":
        yield _noted(f"    history_visibility: {step.history_visibility}", "what it sees of the steps before")


def _repeat(step: StepSpec) -> list[str]:
    repeat = step.repeat
    if repeat is None:
        return []
    conditions = [
        ("until_review_pass", repeat.until_review_pass or None),
        ("until_contains", repeat.until_contains),
        ("until_command_passes", repeat.until_command_passes),
    ]
    given = [(name, value) for name, value in conditions if value is not None]
    entries = [("back_to", repeat.back_to), *given, ("max_iterations", repeat.max_iterations)]
    return _mapping("repeat", entries, 4)


def _limits(spec: WorkflowSpec) -> list[str]:
    return [] if _sizes_differ(spec) else _limit(spec.steps[0].context_chars, 0)


def _sizes_differ(spec: WorkflowSpec) -> bool:
    return len({step.context_chars for step in spec.steps}) > 1


def _limit(size: int, indent: int) -> list[str]:
    return [] if size == CONTEXT_CHARS else _mapping("limits", [("context_chars", size)], indent)


# --- comments ----------------------------------------------------------------------------------


def _comments(spec: WorkflowSpec, number: int) -> tuple[list[str], str]:
    """What the file says of a step: in the lines right above it, and beside its id."""
    start, named = spec.places.get(f"steps.{number}"), spec.places.get(f"steps.{number}.id")
    if start is None or named is None:
        return [], ""
    above: list[str] = []
    for line in reversed(spec.lines[: start.line - 1]):
        if not _is_comment(line.strip()):
            break
        above.insert(0, f"  {line.strip()}")
    before, _, beside = spec.lines[named.line - 1].partition(" #")
    in_quotes = before.count('"') % 2 or before.count("'") % 2  # there it begins no comment
    return above, beside.strip() if beside.isprintable() and not in_quotes else ""


def _is_comment(line: str) -> bool:
    """One that stays one: YAML ends a line at more characters than an editor does."""
    return line.startswith("#") and line.isprintable()


def _noted(line: str, comment: str) -> str:
    noted = f"{line} # {comment}"
    return noted if comment and len(noted) <= WIDTH else line


# --- values ------------------------------------------------------------------------------------


def _mapping(key: str, entries: Sequence[tuple[str, str | float | bool]], indent: int) -> list[str]:
    """A mapping on one line where it fits, else an entry a line."""
    inside = ", ".join(f"{name}: {_value(value)}" for name, value in entries)
    line = f"{' ' * indent}{_word(key)}: {{{inside}}}"
    if len(line) <= WIDTH:
        return [line]
    lines = [f"{' ' * indent}{_word(key)}:"]
    for name, value in entries:
        if isinstance(value, str):
            lines += _text(name, value, indent + 2, inline=True)
        else:
            lines.append(f"{' ' * (indent + 2)}{name}: {_value(value)}")
    return lines


def _value(value: str | float | bool) -> str:
    if isinstance(value, str):
        return _quote(value) if ":" in value else _word(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == int(value):
        return str(int(value))
    mantissa, mark, exponent = repr(value).partition("e")
    # To YAML 1.1 a number with an exponent and without a point is a text.
    return repr(value) if not mark or "." in mantissa else f"{mantissa}.0e{exponent}"


def _text(key: str, value: str, indent: int, *, inline: bool = False) -> list[str]:
    """A key and its text; ``inline`` keeps a text that fits on the key's own line."""
    start = f"{' ' * indent}{_word(key)}: "
    if inline and len(start + _word(value)) <= WIDTH:
        return [start + _word(value)]
    block = _block(value, WIDTH - indent - 2)
    if block is None:
        return _split(start, value, indent + 2)
    style, lines = block
    return [start + style, *(" " * (indent + 2) + line if line else "" for line in lines)]


def _word(value: str) -> str:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT
    return value if plain else _quote(value)


def _quote(value: str) -> str:
    return f'"{"".join(map(_escape, value))}"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _split(start: str, value: str, indent: int) -> list[str]:
    """A double-quoted text over several lines, each but the last ended by a backslash."""
    lines, line = [], start + '"'
    for unit in map(_escape, value):
        if len(line) + len(unit) >= WIDTH:
            lines.append(line + "\\")
            line = " " * indent + ("\\" if unit == " " else "")
        line += unit
    return [*lines, line + '"']


def _block(value: str, width: int) -> tuple[str, list[str]] | None:
    """A literal or folded text: its indicator and its lines, without indentation; None for neither."""
    body = value.removesuffix("\n")
    chomp = "" if body != value else "-"
    lines = body.split("\n")
    if not body or body[0].isspace() or not all(map(_visible, lines)) or not lines[-1]:
        return None
    if len(lines) > 1 and all(len(line) <= width for line in lines):
        return "|" + chomp, lines
    if any(line[:1].isspace() or "\t" in line for line in lines):
        return None
    folded = _separated(_wrapped(line, width) for line in lines)
    return (">" + chomp, folded) if all(len(line) <= width for line in folded) else None


def _visible(line: str) -> bool:
    """Whether a line shows all that it holds; an editor would take the space at its end away."""
    return line.replace("\t", " ").isprintable() and not line[-1:].isspace()


def _wrapped(line: str, width: int) -> list[str]:
    """``line`` in rows that give it again when joined by one space each."""
    rows: list[str] = []
    for word in _BETWEEN_WORDS.split(line) if line else ():
        if rows and len(rows[-1]) + 1 + len(word) <= width:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    return rows


def _each(groups: Iterable[list[str]]) -> list[str]:
    return [line for group in groups for line in group]


def _separated(groups: Iterable[list[str]]) -> list[str]:
    """All lines, with an empty one between any two groups."""
    out: list[str] = []
    for number, group in enumerate(groups):
        out += ["", *group] if number else group
    return out
