"""The size and grain of the code, and where it breaks its own order: ``python benchmarks/house.py [ROOM]``.

Figures to look at, and three lists that fail CI when they are not empty: circles between rooms, two files of
one name, and two public classes of one name. A room is a package or module directly under ``aethr/``.
``lint-imports`` checks the direction of imports, with the layers of ``pyproject.toml``.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "aethr"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class File(NamedTuple):
    """A module of the package, read once."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))


def read_files() -> list[File]:
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    return [File(path, text, ast.parse(text)) for path, text in zip(paths, texts, strict=True)]


def count_code_lines(file: File) -> int:
    """Lines that are not blank, not a comment alone, not in a docstring and not in an import."""
    inert = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
        if token.type not in inert:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(file.tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and (is_text or isinstance(node, ast.Import | ast.ImportFrom)):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def functions(files: Iterable[File]) -> list[tuple[File, ast.FunctionDef | ast.AsyncFunctionDef]]:
    return [(file, node) for file in files for node in file.nodes(*FUNCTIONS) if isinstance(node, FUNCTIONS)]


def private_functions(files: Iterable[File]) -> tuple[list[str], int]:
    """Those that their own file uses in a single place, by path and name; and how many there are in all."""
    once: list[str] = []
    total = 0
    for file in files:
        uses = Counter(
            node.id if isinstance(node, ast.Name) else node.attr
            for node in file.nodes(ast.Name, ast.Attribute)
            if isinstance(node, ast.Name | ast.Attribute)
        )
        for _, node in functions([file]):
            if node.name.startswith("_") and not node.name.startswith("__"):
                total += 1
                if uses[node.name] == 1:
                    once.append(f"{file.path.relative_to(ROOT)}:{node.lineno} {node.name}")
    return once, total


def imports_between_rooms(files: Iterable[File]) -> Mapping[str, set[str]]:
    arrows: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for node in file.nodes(ast.Import, ast.ImportFrom):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                named = [f"{node.module}.{alias.name}" for alias in node.names]
            for parts in (name.split(".") for name in named):
                if parts[0] == PACKAGE and len(parts) > 1 and is_room(parts[1]) and parts[1] != file.room:
                    arrows[file.room].add(parts[1])
    return arrows


def is_room(name: str) -> bool:
    return (ROOT / PACKAGE / name).is_dir() or (ROOT / PACKAGE / f"{name}.py").is_file()


def circles(arrows: Mapping[str, set[str]]) -> list[str]:
    """Pairs of rooms that reach each other."""

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        ahead = list(arrows.get(start, ()))
        while ahead:
            room = ahead.pop()
            if room not in found:
                found.add(room)
                ahead += arrows.get(room, ())
        return found

    reached = {room: reach(room) for room in arrows}
    return [
        f"{one} and {other} import each other"
        for one in sorted(reached)
        for other in sorted(reached[one])
        if one < other and one in reached.get(other, ())
    ]


def twice(things: Iterable[tuple[str, Path]]) -> list[str]:
    places: dict[str, list[Path]] = defaultdict(list)
    for name, path in things:
        places[name].append(path.relative_to(ROOT))
    return [
        f"{name}: {', '.join(map(str, found))}" for name, found in sorted(places.items()) if len(found) > 1
    ]


def print_figures(files: list[File]) -> None:
    code = sum(map(count_code_lines, files))
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for _, node in functions(files)]
    median, longest = statistics.median(lengths or [0]), max(lengths or [0])
    once, private = private_functions(files)
    for name, figure in {
        "lines": sum(file.text.count("\n") for file in files),
        "lines of code": code,
        "files": len(files),
        "functions": len(lengths),
        "functions per 100 lines of code": f"{100 * len(lengths) / max(code, 1):.1f}",
        "lines of a function, median and longest": f"{median:.0f}, {longest}",
        "private functions": private,
        "private functions used once": len(once),
        "classes": sum(1 for file in files for _ in file.nodes(ast.ClassDef)),
    }.items():
        print(f"{name}: {figure}")


def main(words: list[str]) -> int:
    """``house.py [ROOM]``: the whole package, or one room with its private functions that are used once."""
    files = read_files()
    if words:
        room = [file for file in files if file.room == words[0]]
        print_figures(room)
        print(*private_functions(room)[0], sep="\n")
        return 0
    arrows = imports_between_rooms(files)
    rooms = sorted({file.room for file in files} - {"__init__", "__main__"})
    classes = [
        (node.name, file.path) for file in files for node in file.tree.body if isinstance(node, ast.ClassDef)
    ]
    print(f"rooms: {len(rooms)} ({' '.join(rooms)})")
    print(f"imports between rooms: {sum(map(len, arrows.values()))}")
    print_figures(files)
    broken = {
        "rooms in a circle": circles(arrows),
        "files of one name": twice(
            (file.path.name, file.path) for file in files if file.path.name != "__init__.py"
        ),
        "public classes of one name": twice(
            (name, path) for name, path in classes if not name.startswith("_")
        ),
    }
    for rule, breaches in broken.items():
        for breach in breaches:
            print(f"{rule}: {breach}")
    return 1 if any(broken.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
