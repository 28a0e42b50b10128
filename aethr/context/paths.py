"""What a path says by its name alone: may it be read, is it generated. Pure."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath

from aethr.context import globs
from aethr.context.secretnames import is_secret

GENERATED = (
    "*.lock", "*.lockb", "*.lockfile", "package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml",
    "packages.lock.json", "go.sum", "*.min.js", "*.min.css", "*.js.map", "*.css.map", "*.pb.go", "*.pb.cc",
    "*.pb.h", "*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*.g.dart", "*.g.cs", "*.designer.cs", "*.snap",
    "*.generated.*", "*_generated.*",
)  # fmt: skip
"""Files that a tool writes, by their last part; the first to go when a budget is short."""

GENERATED_FOLDERS = frozenset(
    {"vendor", "vendored", "third_party", "node_modules", "dist", "__generated__", "__snapshots__"}
)


def is_generated(path: str) -> bool:
    """Whether a tool, not a person, writes this file, going by its name."""
    *folders, name = path.casefold().split("/")
    return not GENERATED_FOLDERS.isdisjoint(folders) or _generated().fullmatch(name) is not None


def refusal(path: str) -> str | None:
    """Why a path that a workflow names may not be read, whatever it leads to; None when it may."""
    parts = PurePosixPath(path).parts + PureWindowsPath(path).parts
    if not path or "\0" in path or not _encodable(path):
        return "not a path"
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).anchor:
        return "an absolute path; only files of the project are read"
    if ".." in parts:
        return "a path with '..'; only files of the project are read"
    if any(_is_git_folder(part) for part in parts):
        return "inside of .git"
    if is_secret(path):
        return "a file that holds secrets"
    return None


def _encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _is_git_folder(part: str) -> bool:
    """Also as other file systems spell it: any case, trailing dots and spaces, the 8.3 name."""
    return part.casefold().rstrip(". ").partition(":")[0] in (".git", "git~1")


@lru_cache
def _generated() -> re.Pattern[str]:
    return globs.any_of(GENERATED)
