"""What a path says by its name alone: is it secret, is it generated, does it match a pattern. Pure."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath

SECRET = (
    ".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.p8", "*.ppk", "*.jks", "*.keystore", "*.kdbx",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".npmrc", ".pypirc", ".pgpass",
    ".my.cnf", ".htpasswd", ".git-credentials", ".dockercfg", ".vault-element", ".terraformrc",
    ".ssh/*", ".gnupg/*", ".aws/credentials", ".aws/config", ".azure/*", ".kube/config",
    ".docker/config.json", ".config/gh/hosts.yml", "application_default_credentials.json",
)  # fmt: skip
"""Files that hold secrets, as patterns of the last parts of a path, in lower case."""

NOT_SECRET = (".env.example", ".env.sample", ".env.template")

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


def is_secret(path: str) -> bool:
    """Whether the file holds secrets, going by its name. ``path`` has forward slashes."""
    lower = path.casefold()
    name = lower.rpartition("/")[2]
    private_key = name.startswith("id_") and "." not in name
    return name not in NOT_SECRET and (private_key or _ends_as(SECRET).fullmatch(lower) is not None)


def is_generated(path: str) -> bool:
    """Whether a tool, not a person, writes this file, going by its name."""
    lower = path.casefold()
    in_folder = not GENERATED_FOLDERS.isdisjoint(lower.split("/")[:-1])
    return in_folder or _ends_as(GENERATED).fullmatch(lower) is not None


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


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """The whole paths that a glob matches: ``*`` and ``?`` stay within a part, ``**`` crosses parts."""
    return re.compile(_regex(pattern), re.DOTALL)


@lru_cache
def _ends_as(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Paths whose last parts match one of the patterns."""
    return re.compile("(?:.*/)?(?:" + "|".join(map(_regex, patterns)) + ")", re.DOTALL)


def _regex(pattern: str) -> str:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    regex = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part != "**":
            regex += _part_regex(part) + ("" if last else "/")
        elif last:
            regex += ".+"
        elif parts[index - 1 : index] != ["**"]:
            regex += "(?:.+/)?"
    return regex


def _part_regex(part: str) -> str:
    """``*``, ``?`` and ``[...]`` of one path part; an unclosed ``[`` stands for itself."""
    elements = re.findall(r"\*+|\?|\[[!^]?\]?[^\]]*\]|.", part, re.DOTALL)
    return "".join(_element(element) for element in elements)


def _element(element: str) -> str:
    if element.startswith("*"):
        return "[^/]*"
    if element == "?":
        return "[^/]"
    if len(element) > 2 and element.startswith("["):
        body = element[1:-1]
        negated = body[0] in "!^"
        members = re.sub(r"([\\\[\]&~|^])", r"\\\1", body[1:] if negated else body)
        regex = f"(?!/)[{'^' if negated else ''}{members}]"
        return regex if _compiles(regex) else re.escape(element)
    return re.escape(element)


def _compiles(regex: str) -> bool:
    try:
        re.compile(regex)
    except re.error:  # a range the wrong way round, such as [z-a]
        return False
    return True
