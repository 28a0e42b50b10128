"""What a release needs of the checkout that it is made from; only the standard library.

    python .ci/release.py check [vX.Y.Z]   every place has this version, and the changelog a section on it
    python .ci/release.py notes vX.Y.Z     that section
    python .ci/release.py moves vX.Y.Z     the tag that follows it (v1), if it is the newest of its major
    python .ci/release.py set X.Y.Z        write the version into every place, and date the section

The version is that of ``aethr/__init__.py``. Exit codes: 0, or 1 with a line for each thing that is wrong.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
HOME = "https://github.com/aethr/action"
RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)")

_NUMBER = r"\d+\.\d+\.\d+"
PLACES = (
    ("aethr/__init__.py", rf'(?<=^__version__ = "){_NUMBER}(?="$)'),
    ("pyproject.toml", rf'(?<=^version = "){_NUMBER}(?="$)'),
    ("*", rf"(?<=aethr/action@v){_NUMBER}\b"),
    ("*", rf"(?<=^    rev: v){_NUMBER}$"),
    ("*", r"(?<=aethr/action@v)\d+(?![.\d])"),
    ("*", r"(?<=aethr/action/merge@v)\d+(?![.\d])"),
)
"""Where the version stands, as a file and what it is there; ``*`` is any of the texts that people copy."""
TEXTS = ("README.md", "docs/*.md", "aethr/cli/__init__.py", ".github/ISSUE_TEMPLATE/*.yml")


class Place(NamedTuple):
    """One copy of the version: the whole, or its major number alone."""

    path: Path
    line: int
    start: int
    found: str

    def expected(self, version: str) -> str:
        return version if "." in self.found else version.partition(".")[0]


def places() -> Iterator[Place]:
    texts = sorted(path for pattern in TEXTS for path in ROOT.glob(pattern))
    for name, pattern in PLACES:
        for path in texts if name == "*" else [ROOT / name]:
            text = path.read_text(encoding="utf-8")
            for match in re.finditer(pattern, text, re.MULTILINE):
                yield Place(path, text.count("\n", 0, match.start()) + 1, match.start(), match[0])


def current() -> str:
    return next(places()).found


def notes(version: str) -> str:
    """The changelog's section on a version, without its heading; empty if there is none."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |^\[)",
        text,
        re.MULTILINE | re.DOTALL,
    )
    return section[1].strip() if section else ""


def check(tag: str | None) -> list[str]:
    version = current()
    wrong = [
        f"{place.path.relative_to(ROOT)}:{place.line}: {place.found}, not {place.expected(version)}"
        for place in places()
        if place.found != place.expected(version)
    ]
    if tag is not None and tag != f"v{version}":
        wrong.append(f"the tag is {tag}, and aethr/__init__.py says {version}")
    if tag is not None and not notes(version):
        wrong.append(f"CHANGELOG.md has no section '## [{version}] - DATE'")
    return wrong


def set_version(version: str, today: str) -> None:
    """Also makes the changelog's unreleased section that of this version."""
    before = current()
    for path in {place.path for place in places()}:
        text = path.read_text(encoding="utf-8")
        for place in sorted((each for each in places() if each.path == path), reverse=True):
            end = place.start + len(place.found)
            text = text[: place.start] + place.expected(version) + text[end:]
        path.write_text(text, encoding="utf-8", newline="\n")
    changelog = ROOT / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    compare = f"{HOME}/compare/v{before}..."
    for old, new in (
        ("## [Unreleased]\n", f"## [Unreleased]\n\n## [{version}] - {today}\n"),
        (f"{compare}HEAD\n", f"{HOME}/compare/v{version}...HEAD\n[{version}]: {compare}v{version}\n"),
    ):
        text = text.replace(old, new, 1)
    changelog.write_text(text, encoding="utf-8", newline="\n")


def moves(tag: str) -> str:
    """``v1`` for the newest release of that major; empty for an older one, which must not take it back."""
    tags = subprocess.run(
        ["git", "tag", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    released = [
        tuple(map(int, found.groups())) for found in map(RELEASE.fullmatch, (tag, *tags.split())) if found
    ]
    this = released[0]
    newest = max(each for each in released if each[0] == this[0])
    return f"v{this[0]}" if this == newest else ""


def main(words: list[str]) -> int:
    wrong: list[str] = []
    match words:
        case ["check", *rest] if len(rest) < 2:
            wrong = check(rest[0] if rest else None)
        case ["notes", tag] if RELEASE.fullmatch(tag):
            print(notes(tag[1:]))
        case ["moves", tag] if RELEASE.fullmatch(tag):
            print(moves(tag))
        case ["set", version] if RELEASE.fullmatch(f"v{version}"):
            set_version(version, datetime.datetime.now(datetime.timezone.utc).date().isoformat())
            wrong = check(None)
        case _:
            wrong = [__doc__ or ""]
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
