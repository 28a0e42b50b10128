"""The keys of a workflow file, in one table that validates files and makes the JSON Schema."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from aethr.base import providers
from aethr.base.records import ANSWER_FORMS, PARTS, SEVERITIES, VISIBILITIES, StepSpec, WorkflowSpec
from aethr.config.kinds import (
    Choice,
    Flag,
    Json,
    Key,
    ListOf,
    NamedOf,
    Number,
    Problem,
    Record,
    Short,
    Text,
)
from aethr.config.mistakes import quote

URL = "https://raw.githubusercontent.com/aethr/action/v1/aethr.schema.json"
"""Where editors fetch the schema: ``aethr.schema.json`` in the newest release of this major version."""

MODELINE = f"# yaml-language-server: $schema={URL}"
"""Tells the YAML language server where the schema is; the first line of every preset and example."""

CONTEXT_CHARS = 120_000
"""The default budget of a step's context, in characters."""

_LARGEST = 2**31 - 1
_ID = r"[A-Za-z0-9_.-]{1,64}"
_MODEL = r"^[^\s:/]+[:/]\S+$"

GUIDANCE = Text("the role's guidance as text")


class Vocabulary(NamedTuple):
    """What the tables allow in a file: context sources, each with the kind of its argument (None if it takes
    none), backends, loop conditions, patterns of files, and the sources whose argument can be left out."""

    sources: Mapping[str, Text | None]
    backends: tuple[str, ...]
    conditions: tuple[Key, ...]
    pattern: Text = Text("a pattern", one_line=True)
    optional: frozenset[str] = frozenset()


def document(vocabulary: Vocabulary) -> Record:
    """The whole file."""
    return Record(
        "the workflow file",
        (
            Key(
                "workflow", Text(one_line=True), "The workflow's name.", "review-existing-diff", required=True
            ),
            Key(
                "roles",
                NamedOf("role", GUIDANCE, least=1),
                "Each role's name and its guidance.",
                {"reviewer": "Be strict."},
                required=True,
            ),
            Key(
                "models",
                NamedOf("role", Short("model", _MODEL_RECORD)),
                "The model of each role; not required if AETHR_MODEL names one.",
                {"reviewer": providers.EXAMPLE},
            ),
            Key(
                "hosts",
                ListOf(_HOST, "host", least=1),
                "The only hosts that a run may call: names or IP addresses, `*.NAME` for all names below it, "
                "each also with `:PORT`; default: any.",
                ["api.openai.com", "*.example.com", "localhost:11434"],
            ),
            Key(
                "steps",
                ListOf(_step(vocabulary), "step", least=1),
                "What runs, in this order.",
                [{"id": "review", "role": "reviewer", "context": ["git_diff"]}],
                required=True,
            ),
            Key(
                "exclude",
                ListOf(vocabulary.pattern, "pattern"),
                "Changed files that are not reviewed, as in `.gitignore`: the last pattern that matches "
                "decides, and `!` includes again.",
                ["vendor/", "*.snap", "!package-lock.json"],
            ),
            Key(
                "exclude_defaults",
                Flag(),
                "Exclude lock files, generated files, pictures and other data too.",
                False,
                default=WorkflowSpec._field_defaults["exclude_defaults"],
            ),
            Key(
                "instructions",
                ListOf(_instruction(vocabulary), "instruction"),
                "What to tell the steps that read a change with files that match.",
                [{"paths": ["migrations/", "!*.md"], "text": "Each migration must be reversible."}],
            ),
            Key(
                "limits",
                _limits(CONTEXT_CHARS, _PARTS),
                "Limits of each step, and of the run.",
                {"context_chars": CONTEXT_CHARS, "parts": PARTS},
            ),
            Key(
                "answers_by_author",
                Flag(),
                "Let the author of a pull request answer its findings in a comment, with write access.",
                False,
                default=WorkflowSpec._field_defaults["answers_by_author"],
            ),
            Key(
                "answers",
                ListOf(_ANSWER, "answer"),
                "Findings that may stay, each with the reason; `aethr answer` writes them.",
                [{key.name: key.example for key in _ANSWER.keys}],
            ),
        ),
    )


def json_schema(vocabulary: Vocabulary) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": URL,
        "title": "Aethr workflow (.aethr.yaml)",
        "description": "An explicit, sequential AI coding workflow.",
        **document(vocabulary).schema(),
    }


def _instruction(vocabulary: Vocabulary) -> Record:
    return Record(
        "an instruction",
        (
            Key(
                "paths",
                ListOf(vocabulary.pattern, "pattern", least=1),
                "The changed files that it is for, as in `.gitignore`: the last pattern that matches "
                "decides, and `!` leaves files out again.",
                ["migrations/", "!*.md"],
                required=True,
            ),
            Key(
                "text",
                Text("the instruction as text"),
                "What the prompt says after the role's text.",
                "Each migration must be reversible.",
                required=True,
            ),
        ),
    )


def _step(vocabulary: Vocabulary) -> Record:
    default = StepSpec._field_defaults
    return Record(
        "a step",
        (
            Key("id", STEP_ID, "The step's name, unique in the file.", "review", required=True),
            Key("role", Text(one_line=True), "One of the roles above.", "reviewer", required=True),
            Key(
                "context",
                ListOf(context_source(vocabulary), "context source"),
                f"What the prompt shows, in this order: {', '.join(source_forms(vocabulary))}.",
                [source_forms(vocabulary)[0].partition("[")[0]],
            ),
            Key(
                "backend",
                Choice("backend", vocabulary.backends),
                "What runs the step: a model call, or a coding agent that edits the tree.",
                default["backend"],
                default=default["backend"],
            ),
            Key(
                "unsafe_permissions",
                Flag(),
                "Let a coding agent act without its own permission checks.",
                False,
                default=default["unsafe_permissions"],
            ),
            Key(
                "allow",
                ListOf(_ALLOWED, "command", least=1),
                "Commands that a coding agent may run in spite of its permission checks, each also with more "
                "arguments.",
                ["npm test"],
            ),
            Key(
                "history_visibility",
                Choice("history_visibility", VISIBILITIES),
                "How much of earlier steps' answers the prompt shows.",
                "latest",
                default=default["history_visibility"],
            ),
            _repeat(vocabulary.conditions),
            Key(
                "review",
                Flag(),
                "Whether the answer is a review, with findings and a verdict; default: true for the role "
                "`reviewer`, and for a step with `until_review_pass`.",
                True,
            ),
            Key(
                "answer",
                Choice("answer", ANSWER_FORMS),
                "How a reviewing step asks for its answer: as text, or as JSON by the provider's own schema.",
                "schema",
                default=default["answer"],
            ),
            Key(
                "verify",
                ListOf(STEP_ID, "step", least=1),
                "Check the findings of these earlier reviewing steps, and drop what lines of code disprove.",
                ["review"],
            ),
            Key(
                "verify_high",
                Flag(),
                "Drop disproved high findings too; otherwise they are only marked as disputed.",
                False,
                default=default["verify_high"],
            ),
            Key("limits", _limits(None), "Limits of this step.", {"context_chars": 40_000}),
        ),
    )


def _repeat(conditions: tuple[Key, ...]) -> Key:
    kind = Record(
        "a repeat",
        (
            Key(
                "back_to",
                Text(one_line=True),
                "The step where each pass begins: this one or an earlier one.",
                "implement",
                True,
            ),
            Key(
                "max_iterations",
                Number(1, 50, whole=True),
                "Maximum number of passes, including the first one.",
                3,
                True,
            ),
            *conditions,
        ),
        one_of=tuple(key.name for key in conditions),
    )
    loop = {"back_to": "implement", "max_iterations": 3, conditions[0].name: conditions[0].example}
    return Key("repeat", kind, "Run again from an earlier step.", loop)


def _command_problem(text: str) -> Problem | None:
    try:
        words = shlex.split(text)
    except ValueError:
        return Problem("the command has a quote that is not closed")
    return None if words and words[0] else Problem("the command has no words")


_WORDS = r"[A-Za-z0-9_@%+=:,./-]+( [A-Za-z0-9_@%+=:,./-]+)*"


def _allowed_problem(text: str) -> Problem | None:
    if re.fullmatch(_WORDS, text):
        return None
    return Problem(
        f"{quote(text)} is not a plain command: write words of letters, digits and _@%+=:,./- with one space "
        "between them; more arguments may follow it"
    )


_ALLOWED = Text("a command", one_line=True, problem=_allowed_problem, limits={"pattern": f"^{_WORDS}$"})
"""No character here is special in the rules of an agent or in a shell."""

_ANY = MappingProxyType({"pattern": r"\S(.*\S)?"})
ARGUMENT = Text("an argument", one_line=True, limits=_ANY)
COMMAND = Text("a command", one_line=True, problem=_command_problem, limits=_ANY)


_DIFF_FORM = r"function|0|[1-9][0-9]{0,2}|1000"


def _diff_form_problem(text: str) -> Problem | None:
    if re.fullmatch(_DIFF_FORM, text):
        return None
    return Problem(f"{quote(text)} is neither a number of lines from 0 to 1000 nor 'function'")


DIFF_FORM = Text("a form", one_line=True, problem=_diff_form_problem, limits={"pattern": _DIFF_FORM})
"""How much context a diff shows."""


_PARTS = Key(
    "parts",
    Number(1, 1000, whole=True),
    "Maximum number of parts that a change larger than a step's context is cut into; each is a call.",
    PARTS,
    default=PARTS,
)


def _limits(default: int | None, *more: Key) -> Record:
    size = Number(1, 10_000_000, whole=True)
    about = "Budget of a step's context, in characters."
    return Record("limits", (Key("context_chars", size, about, CONTEXT_CHARS, default=default), *more))


def _place_problem(text: str) -> Problem | None:
    if re.fullmatch(_PLACE, text):
        return None
    return Problem(f"the id {quote(text)} is not 12 of the characters 0-9 a-f")


_PLACE = r"[0-9a-f]{12}"
PLACE_ID = Text("an id", problem=_place_problem, limits={"pattern": f"^{_PLACE}$"})
"""The id of a finding's place."""
MESSAGE = Text("a message", one_line=True)
REASON = Text("a reason")
_ANSWER = Record(
    "an answer",
    (
        Key("id", PLACE_ID, "The id that reports print with the finding.", "f2a91c40b7de", required=True),
        Key(
            "severity",
            Choice("severity", SEVERITIES),
            "That of the finding. A more severe one is not covered.",
            "medium",
            required=True,
        ),
        Key(
            "message",
            MESSAGE,
            "The words of the finding. Another defect on the same lines is not covered.",
            "the cache is never emptied",
            required=True,
        ),
        Key(
            "reason",
            REASON,
            "Why it may stay, for people.",
            "the process lives for one request",
            required=True,
        ),
        Key(
            "also",
            ListOf(PLACE_ID, "id"),
            "Other ids of the finding, from the lines that other reviewers named.",
            ["0b57a4d8e61c"],
        ),
    ),
)


def _id_problem(text: str) -> Problem | None:
    if re.fullmatch(_ID, text):
        return None
    return Problem(f"the step id {quote(text)} is not 1 to 64 of the characters A-Z a-z 0-9 _ . -")


STEP_ID = Text("a step id", problem=_id_problem, limits={"pattern": f"^{_ID}$"})


def _model_problem(text: str) -> Problem | None:
    try:
        providers.split(text)
    except ValueError:
        if "://" in text:
            return Problem(
                "a model name cannot contain an address; set the endpoint in an environment variable"
            )
        return Problem(f"{quote(text)} is not provider:model, such as {providers.EXAMPLE}")
    return None


_ENDPOINT = r"[A-Z][A-Z0-9_]{0,99}_(API_BASE|BASE_URL|ENDPOINT)"


def _host_problem(text: str) -> Problem | None:
    from aethr.base.network import host_rule  # only a file with hosts needs it

    try:
        host_rule(text)
    except ValueError as error:
        return Problem(f"the host {quote(text)}: {error}")
    return None


_HOST = Text(
    "a host",
    one_line=True,
    problem=_host_problem,
    limits={"pattern": r"^(\*\.)?(\[[^\[\]\s]+\]|[^\s:/@*?#\[\]\\]+)(:[0-9]{1,5})?$"},
)


def _endpoint_problem(text: str) -> Problem | None:
    if re.fullmatch(_ENDPOINT, text):
        return None
    if "://" in text:
        return Problem("an endpoint cannot be an address; name the environment variable that has it")
    return Problem(
        f"{quote(text)} is not the name of an environment variable that ends in "
        "_API_BASE, _BASE_URL or _ENDPOINT"
    )


def _instead(setting: str) -> str:
    return f"set {setting} of the model instead"


_PROMPT = "Aethr writes the prompt, and names the model"
_ONE = "Aethr reads one answer"
_WHOLE = "no server may cut the prompt"
_FORM = "Aethr says which form the answer has"
_STREAM = "Aethr says how the answer is sent"
_GEMINI = {
    "maxOutputTokens": _instead("max_tokens"),
    "temperature": _instead("temperature"),
    "topP": _instead("top_p"),
    "seed": _instead("seed"),
    "thinkingConfig": _instead("reasoning_effort"),
    "candidateCount": _ONE,
    "responseMimeType": _FORM,
    "responseSchema": _FORM,
    "responseJsonSchema": _FORM,
}
OWN_OPTIONS: Mapping[str, str | Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("max_tokens", "max_completion_tokens", "max_output_tokens"), _instead("max_tokens")),
        **{name: _instead(name) for name in ("temperature", "top_p", "seed")},
        **dict.fromkeys(("reasoning_effort", "thinking", "think"), _instead("reasoning_effort")),
        **dict.fromkeys(("model", "messages", "input", "contents", "prompt"), _PROMPT),
        **dict.fromkeys(("system", "systemInstruction", "system_instruction", "instructions"), _PROMPT),
        "models": "name other models under fallback",
        **dict.fromkeys(("n", "best_of"), _ONE),
        **dict.fromkeys(("truncate", "shift", "truncation", "transforms", "truncate_prompt_tokens"), _WHOLE),
        **dict.fromkeys(("response_format", "format"), _FORM),
        **dict.fromkeys(("stream", "stream_options", "background"), _STREAM),
        "store": "Aethr asks that no prompt is stored",
        "usage": "Aethr asks for the counts that it needs",
        "generation_config": "write it as generationConfig",
        # Gemini takes the names of its fields in either form.
        "generationConfig": {
            **_GEMINI,
            **{re.sub("([A-Z])", r"_\1", name).lower(): reason for name, reason in _GEMINI.items()},
        },
        "options": {  # of Ollama
            "num_predict": _instead("max_tokens"),
            **{name: _instead(name) for name in ("temperature", "top_p", "seed")},
            "num_ctx": "Aethr sets the window that prompt and answer need",
            "num_keep": _WHOLE,
        },
        "reasoning": {"effort": _instead("reasoning_effort")},
        "output_config": {"effort": _instead("reasoning_effort"), "format": _FORM},
        "text": {"format": _FORM},
    }
)
"""Keys of requests, in all protocols, that Aethr sets itself or could not keep its promises with."""


_MODEL_NAME = Text(
    "a model name (provider:model)",
    problem=_model_problem,
    limits={"pattern": _MODEL, "not": {"pattern": "://"}},
)
_MODEL_RECORD = Record(
    "a model",
    (
        Key("model", _MODEL_NAME, "provider:model or provider/model.", providers.EXAMPLE, required=True),
        Key("temperature", Number(0, 2), "Sampling temperature; default: the provider's.", 0),
        Key("seed", Number(-(2**63), 2**63 - 1, whole=True), "Sampling seed, where supported.", 7),
        Key(
            "max_tokens",
            Number(1, _LARGEST, whole=True),
            "Maximum length of the answer, in tokens, including the model's reasoning.",
            providers.ANSWER_LIMIT,
        ),
        Key(
            "timeout_s",
            Number(0, 86_400, above_low=True),
            "Time limit of a call with all its attempts, or of an agent's step, in seconds.",
            120,
        ),
        Key("top_p", Number(0, 1), "Nucleus sampling; default: the provider's.", 0.9),
        Key(
            "reasoning_effort",
            Choice("reasoning_effort", providers.EFFORTS),
            "How much the model thinks; each model takes some of these words.",
            "low",
        ),
        Key(
            "options",
            Json(OWN_OPTIONS),
            "Anything else for the provider: added to the JSON of each request as it is.",
            {"service_tier": "flex"},
        ),
        Key(
            "endpoint",
            Text("the name of a variable", problem=_endpoint_problem, limits={"pattern": f"^{_ENDPOINT}$"}),
            "The environment variable with the address of the model's server; default: that of the provider.",
            "SECOND_BASE_URL",
        ),
        Key(
            "fallback",
            ListOf(_MODEL_NAME, "model", least=1),
            "Models to call instead, in this order, when this one has no capacity or cannot be reached.",
            ["anthropic:claude-sonnet-5-5"],
        ),
    ),
)


def source_forms(vocabulary: Vocabulary) -> list[str]:
    """The sources as written in a file; what is in brackets can be left out."""
    return [
        name if not kind else f"{name}[:…]" if name in vocabulary.optional else f"{name}:…"
        for name, kind in vocabulary.sources.items()
    ]


def context_source(vocabulary: Vocabulary) -> Text:
    forms = []
    for name, kind in vocabulary.sources.items():
        argument = f"(:({kind.limits['pattern']}))" if kind else ""
        forms.append(re.escape(name) + argument + "?" * (name in vocabulary.optional))
    return Text(
        "a context source",
        one_line=True,
        problem=partial(_source_problem, vocabulary),
        limits={"pattern": f"^({'|'.join(forms)})$"},
    )


def _source_problem(vocabulary: Vocabulary, text: str) -> Problem | None:
    name, colon, argument = text.partition(":")
    if name not in vocabulary.sources:
        return Problem(f"unknown context source {quote(name)}", name, tuple(vocabulary.sources))
    kind = vocabulary.sources[name]
    if not colon and name in vocabulary.optional:
        return None
    if kind is None:
        return Problem(f"the context source '{name}' takes no argument") if colon else None
    if not argument.strip() and name in vocabulary.optional:
        return Problem(f"'{name}:' has no argument; write '{name}' or '{name}:…'")
    if not argument.strip():
        return Problem(f"the context source '{name}' needs an argument, as in '{name}:…'")
    if argument != argument.strip():
        return Problem(f"the argument of '{name}:' begins or ends with a space")
    return kind.problem(argument) if kind.problem else None
