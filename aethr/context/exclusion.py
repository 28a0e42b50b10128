"""What rules exclude from a review: the patterns of ``exclude:``, and the table of defaults.

``instructions:`` names files by the same patterns.

A change must not decide how it is reviewed. So a default looks at names, modes and the base side only, and
never at what the new version of a file says. A file is excluded only if every name that it has in the change
is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from aethr.base.records import Instruction, Receipt, Rules, Survey, is_change
from aethr.base.sanitize import reveal_name
from aethr.context import paths
from aethr.context.diffs import Row
from aethr.git import baseside

# --- the patterns of `exclude:` ------------------------------------------------------------------


class Pattern(NamedTuple):
    """A pattern as in ``.gitignore`` (https://git-scm.com/docs/gitignore#_pattern_format).

    ``regex`` matches whole paths, or with ``by_name`` the last part of one.
    """

    text: str
    regex: re.Pattern[str]
    negated: bool = False
    folders_only: bool = False
    by_name: bool = False


_ELEMENTS = re.compile(r"\\.|\*+|\?|\[[!^]?\]?(?:\[:[a-z]*:\]|\\.|[^\]\\])*\]|.", re.DOTALL)
_MEMBERS = re.compile(r"\[:[a-z]*:\]|\\.|.", re.DOTALL)
_CLASSES: Mapping[str, str] = {
    "[:alnum:]": "0-9A-Za-z", "[:alpha:]": "A-Za-z", "[:blank:]": r" \t", "[:cntrl:]": r"\x00-\x1f\x7f",
    "[:digit:]": "0-9", "[:graph:]": "!-~", "[:lower:]": "a-z", "[:print:]": " -~",
    "[:punct:]": r"!-/:-@\[-`{-~", "[:space:]": r"\s", "[:upper:]": "A-Z", "[:xdigit:]": "0-9A-Fa-f",
}  # fmt: skip


def problem(text: str) -> str | None:
    """What is wrong with a pattern that git would silently ignore, because it matches nothing."""
    bare = text.removeprefix("!")
    if text.startswith("#"):
        return "begins with '#', which makes it a comment in .gitignore; write \\# for the character"
    if text[:1].isspace() or re.search(r"(?<!\\)\s$", text):
        return "begins or ends with a space; write '\\ ' at the end for the character"
    if not bare.strip("/"):
        return "names no file"
    if re.search(r"(?<!\\)(?:\\\\)*\\$", text) or "\\/" in text:
        return "has a '\\' that escapes nothing"
    parts = bare.strip("/").split("/")
    if "" in parts or "." in parts or ".." in parts:
        return "has an empty part, '.' or '..', and so matches nothing; paths begin at this file's folder"
    return next(filter(None, map(_set_problem, _ELEMENTS.findall(bare))), None)


def _set_problem(element: str) -> str | None:
    if element == "[":
        return "has a '[' that is not closed"
    if len(element) > 2 and element[0] == "[":
        try:
            re.compile(_members(element))
        except (KeyError, re.error):
            return f"has a set that is not valid: {element}"
        if "/" in element:
            return f"has a '/' in a set: {element}"
    return None


@lru_cache(maxsize=1024)
def parse(text: str) -> Pattern:
    """A valid pattern, compiled so that it matches any path in linear time.

    As in git, ``?`` and a set stand for a byte.
    """
    negated = text.startswith("!")
    bare = _as_bytes(text[negated:])
    folders_only = bare.endswith("/")
    glob = bare.rstrip("/") if folders_only else bare
    groups = (f"g{number}" for number in count())
    regex = paths.regex(glob.lstrip("/"), groups, _ELEMENTS, _element)
    return Pattern(
        text, re.compile(regex, re.DOTALL | re.ASCII), negated, folders_only, by_name="/" not in glob
    )


def _as_bytes(text: str) -> str:
    """A character for each byte, as git matches them."""
    return os.fsencode(text).decode("latin-1")


def _element(element: str) -> str:
    if element[0] == "\\":
        return re.escape(element[1:])
    if len(element) > 2 and element[0] == "[":
        return _members(element)
    return "[^/]" if element == "?" else re.escape(element)


def _members(element: str) -> str:
    negated = element[1] in "!^"
    found = []
    for member in _MEMBERS.findall(element[1 + negated : -1]):
        if member.startswith("[:"):
            found.append(_CLASSES[member])
        else:
            found.append(member if member == "-" else re.escape(member.removeprefix("\\") or member))
    return f"(?!/)[{'^' if negated else ''}{''.join(found)}]"


def deciding_pattern(patterns: Sequence[Pattern], path: str, is_folder: bool = False) -> Pattern | None:
    """The pattern that decides about a path, as in git: the last one that matches it, or a folder above it.

    Once a folder is excluded, no pattern includes anything below it again.
    """
    path = _as_bytes(path)
    found = None
    ends = [at for at, character in enumerate(path) if character == "/"]
    for end in (*ends, len(path)):
        part = path[:end]
        name = part.rpartition("/")[2]
        as_folder = is_folder or end < len(path)
        for pattern in reversed(patterns):
            if (as_folder or not pattern.folders_only) and pattern.regex.fullmatch(
                name if pattern.by_name else part
            ):
                found = pattern
                break
        if found is not None and not found.negated:
            return found
    return found


def concerns(folder: str, instruction: Instruction, receipt: Receipt) -> bool:
    """Whether an instruction is for the file of a receipt: one of the change, by its name before or after it.

    An excluded file is not sent, so it needs none. ``folder`` is the project's, as for ``find``.
    """
    if not is_change(receipt.source) or receipt.excluded is not None:
        return False
    patterns = [parse(text) for text in instruction.paths]
    decided = (_pattern_of(patterns, name, folder) for name in (receipt.path, receipt.old_path) if name)
    return any(pattern is not None and not pattern.negated for pattern in decided)


def _pattern_of(
    patterns: Sequence[Pattern], path: str, folder: str, is_folder: bool = False
) -> Pattern | None:
    """The pattern that decides about a path, which is relative to the repository's top."""
    below = "" if folder == "." else f"{folder}/"
    if not patterns or not path.startswith(below):
        return None
    return deciding_pattern(patterns, path[len(below) :], is_folder)


# --- the defaults --------------------------------------------------------------------------------


class DefaultRule(NamedTuple):
    """Files that are excluded by default, by their name in any case.

    ``binary`` is True for kinds of data: such a file is excluded only if it is binary, as its text can be
    shown.
    """

    kind: str
    names: tuple[str, ...]
    binary: bool = False


DEFAULTS = (
    DefaultRule(
        "lock file",
        (
            "*.lock", "*.lockb", "*.lockfile", ".terraform.lock.hcl", "go.sum", "npm-shrinkwrap.json",
            "package-lock.json", "package.resolved", "packages.lock.json", "pnpm-lock.yaml",
        ),
    ),
    DefaultRule("minified", ("*.min.css", "*.min.js", "*.min.mjs", "*.css.map", "*.js.map", "*.mjs.map")),
    DefaultRule(
        "generated",
        (
            "*.pb.go", "*.pb.cc", "*.pb.h", "*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*.g.dart",
            "*.freezed.dart", "*.g.cs", "*.designer.cs", "*.snap", "*.generated.*", "*_generated.*",
        ),
    ),
    DefaultRule(
        "picture",
        (
            "*.apng", "*.avif", "*.bmp", "*.gif", "*.heic", "*.icns", "*.ico", "*.jfif", "*.jp2", "*.jpeg",
            "*.jpg", "*.jxl", "*.png", "*.psd", "*.tga", "*.tif", "*.tiff", "*.webp", "*.xcf",
        ),
        binary=True,
    ),
    DefaultRule("font", ("*.eot", "*.otf", "*.pfb", "*.ttc", "*.ttf", "*.woff", "*.woff2"), binary=True),
    DefaultRule(
        "audio or video",
        (
            "*.aac", "*.avi", "*.flac", "*.m4a", "*.m4v", "*.mkv", "*.mov", "*.mp3", "*.mp4", "*.mpeg",
            "*.mpg", "*.oga", "*.ogg", "*.ogv", "*.opus", "*.wav", "*.webm", "*.wma", "*.wmv",
        ),
        binary=True,
    ),
    DefaultRule(
        "archive",
        (
            "*.7z", "*.br", "*.bz2", "*.gz", "*.lz4", "*.rar", "*.tar", "*.tbz2", "*.tgz", "*.txz", "*.xz",
            "*.zip", "*.zst",
        ),
        binary=True,
    ),
    DefaultRule(
        "document",
        (
            "*.doc", "*.docx", "*.epub", "*.odp", "*.ods", "*.odt", "*.pdf", "*.ppt", "*.pptx", "*.rtf",
            "*.xls", "*.xlsx",
        ),
        binary=True,
    ),
)  # fmt: skip
"""What is excluded by its name. The page on context lists this table."""

GUIDANCE = ("AGENTS.md", "CLAUDE.md", "CONTRIBUTING.md", ".github/copilot-instructions.md")
"""What tells people, agents and reviewers how to work on a project: in its folder, and at the top."""

PROTECTED = (
    ".gitattributes", ".aethr.yaml", ".aethr.yml", ".gitmodules", "AGENTS.md", "CLAUDE.md", "CONTRIBUTING.md",
    "copilot-instructions.md", ".github/**", ".gitlab-ci.yml", ".gitlab/**", ".circleci/**", ".buildkite/**",
    ".woodpecker/**", ".woodpecker.yml", ".drone.yml", ".travis.yml", ".cirrus.yml", "appveyor.yml",
    "azure-pipelines.yml", "bitbucket-pipelines.yml", "Jenkinsfile", "action.yml", "action.yaml",
    ".pre-commit-config.yaml",
)  # fmt: skip
"""What no default excludes, in any folder: what decides on reviews, what guides reviewers, what CI runs."""

_GUIDES = frozenset({".aethr.yaml", ".aethr.yml", *(name.lower().rpartition("/")[2] for name in GUIDANCE)})

_PROTECTED_ANYWHERE = tuple(f"**/{name.lower()}" for name in PROTECTED)

GENERATED_FOLDERS = frozenset(
    {"vendor", "vendored", "third_party", "node_modules", "dist", "__generated__", "__snapshots__"}
)
"""Their files are dropped first when a context is over its budget, but no default excludes them."""


def default_rule(path: str) -> DefaultRule | None:
    """The default for a path, by its name alone."""
    name = _lowered(path).rpartition("/")[2]
    if not _any_default().match(name):  # most names
        return None
    return next(rule for rule in DEFAULTS if _matcher(rule.names).fullmatch(name))


@lru_cache
def _any_default() -> paths.Names:
    return paths.group(name for rule in DEFAULTS for name in rule.names)


def is_protected(path: str) -> bool:
    """Whether no default may exclude this path."""
    return _matcher(_PROTECTED_ANYWHERE).fullmatch(_lowered(path)) is not None


def is_generated(path: str) -> bool:
    """Whether, by its name, a tool and not a person writes this file."""
    rule = default_rule(path)
    named = rule is not None and not rule.binary
    return named or not GENERATED_FOLDERS.isdisjoint(_lowered(path).split("/")[:-1])


_TESTS = paths.any_of(
    ("test_*", "*_test.*", "*.test.*", "*.spec.*", "*_spec.*", "conftest.py", "*test.java", "*tests.cs")
)
_TEST_FOLDERS = frozenset(
    {"test", "tests", "__tests__", "spec", "specs", "testing", "testdata", "fixtures", "e2e"}
)
_PROSE_AND_DATA = frozenset(
    (
        "md", "markdown", "mdx", "rst", "txt", "adoc", "asciidoc", "org", "tex", "csv", "tsv", "json",
        "jsonl", "ndjson", "svg", "po", "pot", "xlf", "ipynb", "geojson", "log",
    )
)  # fmt: skip


def importance(path: str) -> int:
    """In which order files of a change are sent: 0 for source, 1 for tests, 2 for the rest."""
    *folders, name = path.casefold().split("/")
    if is_generated(path) or name.rpartition(".")[2] in _PROSE_AND_DATA:
        return 2
    return 1 if not _TEST_FOLDERS.isdisjoint(folders) or _TESTS.fullmatch(name) else 0


def guides(path: str) -> bool:
    """Whether a file, in any folder, tells agents or reviewers what to do: guidance, or a workflow file.

    ``path`` may be one of the base side, as ``file:`` writes it.
    """
    return path.rpartition("/")[2].casefold().removesuffix("@base") in _GUIDES


def _lowered(path: str) -> str:
    """In lower case; only ASCII, so that no other letter passes for one of a name in a table."""
    return path.lower() if path.isascii() else os.fsdecode(os.fsencode(path).lower())


@lru_cache
def _matcher(globs: tuple[str, ...]) -> re.Pattern[str]:
    return paths.any_of(globs)


# --- the decision --------------------------------------------------------------------------------


class Reason(NamedTuple):
    """Why a file is excluded: ``rule`` says it in a few words.

    ``default`` is False for a pattern of the workflow file. ``binary`` is True if the rule holds only for a
    binary file.
    """

    rule: str
    default: bool = True
    binary: bool = False


def find(rows: Iterable[Row], survey: Survey, folder: str, rules: Rules) -> Mapping[bytes, Reason]:
    """The excluded files of a change, by their names after it.

    ``rows`` are all files of the change. ``folder`` is the project's, relative to the repository's top: the
    patterns of its workflow file are about the files below it. Raises ``GitError``, ``DiskError``.
    """
    patterns = [parse(text) for text in rules.exclude]
    found: dict[bytes, Reason] = {}
    asked: list[tuple[Row, list[bytes], list[Reason]]] = []
    for row in rows:
        decided = {
            name: _pattern_of(patterns, os.fsdecode(name), folder, row.is_submodule) for name in row.names
        }
        if any(pattern and pattern.negated for pattern in decided.values()):
            continue
        by_file = [
            Reason(f"exclude: {reveal_name(each.text)}", default=False) for each in decided.values() if each
        ]
        rest = [name for name, pattern in decided.items() if pattern is None]
        if not rest:
            found[row.path] = by_file[-1]
        elif rules.defaults and row.plain and not any(is_protected(os.fsdecode(name)) for name in rest):
            asked.append((row, rest, by_file))
    said = baseside.NOTHING
    if asked and survey.scope.base_side:
        names = dict.fromkeys(name for _, rest, _ in asked for name in rest)
        said = baseside.read(survey.top, survey.scope.base_side, tuple(names))
    for row, rest, by_file in asked:
        by_default = [_default(name, said) for name in rest]
        if None not in by_default:
            rule = [*by_file, *filter(None, by_default)][-1].rule
            binary = any(each is not None and each.binary for each in by_default)
            found[row.path] = Reason(rule, binary=binary)
    return found


def _default(name: bytes, said: baseside.Said) -> Reason | None:
    generated = said.generated.get(name)
    if generated is not None:
        return Reason("generated (.gitattributes)") if generated else None
    if rule := default_rule(os.fsdecode(name)):
        return Reason(rule.kind, binary=rule.binary)
    return Reason("generated (its first lines)") if name in said.marked else None
