"""Find cases and read them, with every mistake at its place."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from aethr.base.errors import ConfigError, UsageError
from aethr.base.records import SEVERITIES, Lines
from aethr.base.words import counted
from aethr.config import nodes
from aethr.config.kinds import MISSING, Choice, Flag, Key, ListOf, Reading, Record, Text, read_document
from aethr.config.mistakes import Mistake, quote
from aethr.config.nodes import Node, Scalar
from aethr.evaluation import trees
from aethr.evaluation.trials import Case, Expected, Where
from aethr.git.building import Tree

_Arguments = ParamSpec("_Arguments")
_Read = TypeVar("_Read")

EXPECT = "expect.yaml"
PATCH = "change.patch"
_LINES = re.compile(r"([1-9][0-9]{0,6})(?:-([1-9][0-9]{0,6}))?", re.ASCII)


class Loaded(NamedTuple):
    """A case and its files before and after the change."""

    case: Case
    base: Tree
    head: Tree


def _digest(message: str, *sides: Tree) -> str:
    """The SHA-256 of what a run over a case depends on: its commit message and its files."""
    found = hashlib.sha256(message.encode("utf-8", "replace"))
    for tree in sides:
        for name, (mode, data) in sorted(tree.items()):
            raw = os.fsencode(name)
            found.update(b"\0%b %d %d " % (mode.encode(), len(raw), len(data)) + raw + data)
        found.update(b"\0end")
    return found.hexdigest()


class _LineRange(NamedTuple):
    """``12`` or ``12-14``."""

    def schema(self) -> dict[str, Any]:
        return {"type": ["integer", "string"]}

    def read(self, node: Node, out: Reading) -> Any:
        found = _LINES.fullmatch(node.text) if isinstance(node, Scalar) else None
        lines = Lines(int(found[1]), int(found[2] or found[1])) if found else None
        if lines is None or lines.last < lines.first:
            return out.refuse(node.place, "expected a line such as 12, or lines such as 12-14")
        return lines


_PLACE = (
    Key("file", Text("the path of a file", one_line=True), "Where it is.", "app.py", required=True),
    Key("lines", _LineRange(), "The line, or the first and the last one.", "12-14"),
)
_FINDING = Record(
    "a finding",
    (
        *_PLACE,
        Key("severity", Choice("severity", SEVERITIES), "How bad it is.", "high", required=True),
        Key(
            "words", ListOf(Text("a word or a few"), "word", least=1), "A report has one.", ["overflow"], True
        ),
        Key("why", Text("a reason"), "For people.", "The last page is never shown."),
        Key("also", ListOf(Record("a place", _PLACE), "place"), "Other places where it may be reported.", []),
    ),
)
_DOCUMENT = Record(
    "a case",
    (
        Key("message", Text("a commit message"), "The commit message of the change.", "Add pages"),
        Key("tags", ListOf(Text("a tag", one_line=True), "tag"), "What `--tag` chooses by.", ["python"]),
        Key("findings", ListOf(_FINDING, "finding", least=1), "What a review should find.", []),
        Key("clean", Flag(only_true=True), "There is nothing to find.", True),
    ),
    one_of=("findings", "clean"),
)


def find(paths: Sequence[str], cwd: Path) -> Mapping[str, Path]:
    """The folder of each case by its name, sorted: below these folders, or those that come with Aethr.

    The name of a case is its path in the folder that was given, or the name of that folder. Raises
    ``UsageError``.
    """
    found: dict[str, Path] = {}
    for path in paths:
        top = Path(cwd, path)
        if not top.is_dir():
            raise UsageError(f"{path}: not a folder", "A case is a folder with base/, head/ and expect.yaml.")
        folders = sorted(_find_below(top))
        if not folders:
            raise UsageError(f"{path}: no case in it", f"A case is a folder with base/, head/ and {EXPECT}.")
        for folder in folders:
            name = folder.relative_to(top).as_posix() if folder != top else top.resolve().name
            if found.setdefault(name, folder).resolve() != folder.resolve():
                raise UsageError(
                    f"two cases have the name {quote(name)}: {found[name]} and {folder}",
                    "Rename one of them.",
                )
    return dict(sorted((found if paths else find([str(shipped())], cwd)).items()))


def shipped() -> Path:
    """The folder of the cases that come with Aethr."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "data" / "cases"  # in a wheel; in a source tree the folder is beside the package
    return installed if installed.is_dir() else package.parent / "cases"


def read(folders: Mapping[str, Path]) -> tuple[Loaded, ...]:
    """Read these cases. Raises ``ConfigError`` with every mistake in all of them."""
    mistakes: list[str] = []
    loaded = [_gather(mistakes, _read_case, name, folder) for name, folder in folders.items()]
    if mistakes:
        raise ConfigError(mistakes)
    return tuple(filter(None, loaded))


def _find_below(folder: Path) -> Iterator[Path]:
    """The folders of cases, at any depth, without following links below the first folder.

    A folder that has only a part of a case is one too, so that it is refused and not left out.
    """
    with os.scandir(folder) as found:
        entries = {each.name: each for each in found}
    if EXPECT in entries or ("base" in entries and ("head" in entries or PATCH in entries)):
        yield folder
        return
    groups = (name for name, each in entries.items() if each.is_dir(follow_symlinks=False) and name[0] != ".")
    below = [case for name in groups for case in _find_below(folder / name)]
    yield from below or ([folder] if {"base", "head", PATCH} & {*entries} else [])


def _read_case(name: str, folder: Path) -> Loaded:
    mistakes: list[str] = []
    base = _gather(mistakes, trees.read, folder / "base")
    head = _gather(mistakes, _read_head, folder, base)
    if head is not None and base == head:
        mistakes.append(f"{trees.shown(folder)}: there is no change: base/ and head/ are the same")
    case = _gather(mistakes, _read_expect, name, folder, head)
    if mistakes or base is None or head is None or case is None:
        raise ConfigError(mistakes)
    return Loaded(case._replace(sha256=_digest(case.message, base, head)), base, head)


def _gather(
    mistakes: list[str], read: Callable[_Arguments, _Read], *args: _Arguments.args, **more: _Arguments.kwargs
) -> _Read | None:
    """What ``read`` returns, or None and its mistakes in the list."""
    try:
        return read(*args, **more)
    except ConfigError as error:
        mistakes += error.mistakes
        return None


def _read_head(folder: Path, base: Tree | None) -> Tree | None:
    """The files after the change: of ``head/``, or of ``base/``, if it could be read, with the patch."""
    there = [name for name in ("head", PATCH) if os.path.lexists(folder / name)]
    if len(there) != 1:
        said = "has both" if there else "needs one of"
        raise ConfigError([f"{trees.shown(folder)}: {said} head/ and {PATCH}"])
    if there == ["head"]:
        return trees.read(folder / "head")
    return trees.patch(base, folder / PATCH) if base is not None else None


def _read_expect(name: str, folder: Path, head: Tree | None) -> Case:
    path = folder / EXPECT
    if path.is_symlink():
        raise ConfigError([f"{trees.shown(path)}: is a link, not a file"])
    text, origin = nodes.load(path, "no such file: it says what a review of the case should find")
    raw, _, _ = read_document(text, origin, _DOCUMENT, partial(_check, head=head))
    return Case(
        name=name,
        folder=folder,
        expected=tuple(
            Expected(
                severity=each["severity"],
                places=tuple(Where(at["file"], at.get("lines")) for at in (each, *each.get("also", ()))),
                words=tuple(each["words"]),
                why=each.get("why", ""),
            )
            for each in raw.get("findings", ())
        ),
        message=raw.get("message", "Change"),
        tags=tuple(raw.get("tags", ())),
    )


def _check(raw: Mapping[str, Any], reading: Reading, head: Tree | None) -> Iterator[Mistake]:
    """What does not fit together, or not to the files of ``head``, if they could be read."""
    if "findings" in raw and "clean" in raw:
        yield Mistake(reading.keys["clean"], "a case with findings is not clean: keep one of the two")
    if head is None:
        return
    for number, finding in enumerate(raw.get("findings") or ()):
        path = f"findings.{number}"
        if finding is MISSING:
            continue
        yield from _check_place(finding, path, reading, head)
        for index, place in enumerate(finding.get("also") or ()):
            if place is not MISSING:
                yield from _check_place(place, f"{path}.also.{index}", reading, head)


def _check_place(place: Mapping[str, Any], path: str, reading: Reading, head: Tree) -> Iterator[Mistake]:
    name, lines = place.get("file", MISSING), place.get("lines", MISSING)
    if name is MISSING:
        return
    if name not in head:
        yield Mistake(
            reading.places[f"{path}.file"], f"no file {quote(name)} after the change", name, tuple(head)
        )
    elif lines is not MISSING and lines.last > (count := len(head[name].data.splitlines())):
        yield Mistake(
            reading.places[f"{path}.lines"], f"{quote(name)} has {counted(count, 'line')} after the change"
        )
