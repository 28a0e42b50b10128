"""A private git directory beside a project, so that its files can be recorded without touching its own.

The project may be hostile, or become so while an agent works in it. Aethr must not run what its
``.git/config`` names (a clean filter, fsmonitor, hooks), nor change its index, refs and objects. So git runs
on the project's work tree with a configuration, an index and an object store of its own; the project's
objects are read as alternates.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from aethr import git
from aethr.base.errors import DiskError, GitError, GitMissingError
from aethr.base.process import Finished, run, stream
from aethr.base.sanitize import reveal_name
from aethr.git import call

TIMEOUT_S = 600.0
"""Deadline of one git call, in seconds. The first call reads every file that git does not know yet."""

FILTERED_BYTES = 1_000_000
"""A larger file with a filter is not read beforehand: with git-lfs that could be the whole project."""

PREFIX = "aethr-snapshot-"

_PROGRAMS = ("PATH", "GIT_EXEC_PATH")
"""Variables by which git finds its programs."""

_COPIED = (
    "core.autocrlf",
    "core.checkstat",
    "core.eol",
    "core.filemode",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.symlinks",
    "core.trustctime",
)
"""The project's settings for how a file's bytes and mode are read. None names a program."""

_OWN = {
    "core.bare": "false",
    "core.loosecompression": "1",
    "core.safecrlf": "false",
    "core.splitindex": "false",
    "core.untrackedcache": "false",
    "advice.addembeddedrepo": "false",
    "gc.auto": "0",
}
"""Every call here is also hardened as any other git call of Aethr is: see ``git.call.command``."""

_MARKED = re.compile(rb"\0[a-zS] ([^\0]*)")
"""A file in the output of ``git ls-files -v -z`` that is marked as unchanged or skipped."""

AGENTS_OWN = (
    "/.opencode/.gitignore",
    "/.opencode/package.json",
    "/.opencode/package-lock.json",
    "/.opencode/bun.lock",
    "/.opencode/node_modules/",
)
"""What OpenCode writes into a project for itself: part of a step's work only if it is tracked."""


class Shadow(NamedTuple):
    """The private directory, and the work tree it records.

    ``top`` is the project's top folder, ``git_dir`` its own git directory (None outside of git), ``common``
    the directory that a linked worktree shares with the others.
    ``plain`` is a second git directory over the same objects, without a work tree and so without
    ``.gitattributes``: what an agent writes into that file cannot hide a change.
    """

    folder: Path
    top: Path
    git_dir: Path | None
    common: Path | None
    program: str
    operators: Mapping[str, str]

    @property
    def objects(self) -> Path:
        """The loose objects: all that is recorded here and not in the project's repository."""
        return self.folder / "objects"

    @property
    def plain(self) -> Path:
        return self.folder / "plain"

    @property
    def rules(self) -> str:
        """A hash of all outside of the tree that decides which files git ignores and how it converts them."""
        files = ("config", "info/exclude", "info/attributes", "user-ignore", "user-attributes")
        there = (self.folder / name for name in files)
        texts = (file.read_bytes() if file.exists() else b"" for file in there)
        return sha256(b"\0".join(texts).replace(os.fsencode(self.folder), b"")).hexdigest()

    def tree_git(self, *args: str, stdin: bytes | None = None, index: str = "index") -> Finished:
        """Run git on the work tree with an index of this directory; the caller checks the exit code."""
        return self._run(self.top, self._tracking(self.top, index), args, stdin)

    @contextmanager
    def start(self, *args: str, index: str = "index") -> Iterator[Callable[[], Finished]]:
        """``tree_git`` in the background of the block, which gets a function that waits for its end.

        Everything that git prints is in ``stderr``. The end of the block ends git.
        """
        argv, env = self.command(*args), {**self.environment(), **self._tracking(self.top, index)}
        with stream(argv, cwd=self.top, env=env, timeout_s=TIMEOUT_S, merged=True) as child:

            def finish() -> Finished:
                said = b"".join(child.chunks())
                return Finished(argv, child.finish().code, b"", said)

            yield finish

    def untracked(self, folder: bytes) -> list[bytes]:
        """The files below a folder that git would add if the folder were the top of a new repository.

        Names are relative to the folder; one with a slash at the end is another repository. Raises
        ``GitError``.
        """
        top = self.top / os.fsdecode(folder)
        words = ("ls-files", "-z", "--others", "--exclude-standard")
        return output(self._run(top, self._tracking(top, "none"), words, None)).split(b"\0")[:-1]

    def checked(self, *args: str, stdin: bytes | None = None, index: str = "index") -> bytes:
        """The output of ``tree_git``. Raises ``GitError`` if it fails."""
        return output(self.tree_git(*args, stdin=stdin, index=index))

    def forget(self, paths: Sequence[bytes], index: str = "index") -> None:
        """Remove files from the index, so that the next record reads them again. Raises ``GitError``."""
        names = b"".join(path + b"\0" for path in paths)
        self.checked("update-index", "--force-remove", "-z", "--stdin", stdin=names, index=index)

    def object_git(self, *args: str, stdin: bytes | None = None, index: str = "index") -> bytes:
        """The output of git on what is recorded, without the work tree. Raises ``GitError`` if it fails."""
        return output(self._run(self.plain, self.recorded(index), args, stdin))

    def recorded(self, index: str) -> dict[str, str]:
        """The variables with which git sees what is recorded, and not the work tree."""
        return {"GIT_DIR": str(self.plain), "GIT_INDEX_FILE": str(self.folder / index)}

    def project_git(self, *args: str, stdin: bytes | None = None) -> Finished:
        """Run git on the project's own git directory, for a question that reads only refs and objects."""
        assert self.git_dir is not None
        return self._run(self.top, {"GIT_DIR": str(self.git_dir)}, args, stdin)

    def _tracking(self, top: Path, index: str) -> dict[str, str]:
        return {
            "GIT_DIR": str(self.folder),
            "GIT_WORK_TREE": str(top),
            "GIT_INDEX_FILE": str(self.folder / index),
        }

    def environment(self) -> dict[str, str]:
        """Only the variables by which git finds programs: no configuration of the user or system is read."""
        return {
            **self.operators,
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
            **call.FIXED,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def command(self, *args: str) -> tuple[str, ...]:
        """A git command line with the hardening of every call."""
        return call.command(*args, program=self.program)

    def _run(
        self, cwd: Path, places: Mapping[str, str], args: tuple[str, ...], stdin: bytes | None
    ) -> Finished:
        env = {**self.environment(), **places}
        return run(self.command(*args), cwd=cwd, env=env, timeout_s=TIMEOUT_S, stdin=stdin)


@contextmanager
def open_shadow(root: Path, environ: Mapping[str, str], objects: Path | None = None) -> Iterator[Shadow]:
    """A shadow of the project that has ``root``, removed at the end of the block.

    ``objects`` is a folder with git objects of an earlier shadow, which are read too. Raises
    ``GitMissingError``, ``DiskError``, and ``GitError`` for a repository that git refuses.
    """
    program = shutil.which("git", path=environ.get("PATH"))
    if program is None:
        raise GitMissingError("git: not found", "Install git, or put it on PATH.")
    project = _read_project(program, root, environ)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    except OSError as error:
        raise _no_room(error) from error
    try:
        operators = {"PATH": os.defpath, **{name: environ[name] for name in _PROGRAMS if name in environ}}
        shadow = Shadow(folder, project.top, project.git_dir, project.common, program, operators)
        try:
            _set_up(shadow, project, environ, objects)
        except OSError as error:
            raise _no_room(error) from error
        yield shadow
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_index(shadow: Shadow, name: str) -> bool:
    """Copy the project's index here, with its time: git trusts a file's time only if it is older.

    https://git-scm.com/docs/racy-git has the reason. A split index has two files; git never changes the
    shared one, so it is copied once: git may be reading the copy. False without an index: before the
    first commit, or without git.
    """
    if shadow.git_dir is None:
        return False
    with suppress(FileNotFoundError, NotADirectoryError):
        for shared in shadow.git_dir.glob("sharedindex.*"):
            if not (shadow.folder / shared.name).exists():
                shutil.copy2(shared, shadow.folder / shared.name)
        shutil.copy2(shadow.git_dir / "index", shadow.folder / name)
        return True
    return False


def output(done: Finished) -> bytes:
    """Standard output of a git call. Raises ``GitError`` if it failed."""
    if done.code != 0:
        raise failure(done)
    return done.stdout


def failure(done: Finished) -> GitError:
    """The error for a git call that must not fail: its first fatal line."""
    lines = done.stderr.splitlines() or [b"no message"]
    said = next((line for line in lines if line.startswith(b"fatal: ")), lines[0])
    return GitError(
        f"cannot record the state of the files: git said {reveal_name(said[:500])}",
        "`git status` and `git fsck` say what is wrong.",
    )


class _Project(NamedTuple):
    """What is read of a project before an agent works in it. ``config`` has lower-case keys."""

    top: Path
    git_dir: Path | None = None
    common: Path | None = None
    hash_name: str = "sha1"
    config: Mapping[str, str] = MappingProxyType({})


_QUESTIONS = ("rev-parse --show-object-format --absolute-git-dir", "config --list -z")
"""Git commands about a project, run side by side. None runs a program that its configuration names."""


def _read_project(program: str, root: Path, environ: Mapping[str, str]) -> _Project:
    env = call.environment(root, environ)

    def ask(words: str) -> bytes:
        argv = call.command(*words.split(), program=program)
        return output(run(argv, cwd=root, env=env, timeout_s=TIMEOUT_S))

    with ThreadPoolExecutor(len(_QUESTIONS)) as beside:
        answers = beside.map(ask, _QUESTIONS)
        here = git.checkout(root)
    if here is None:
        return _Project(root.resolve())
    where, listed = answers
    hash_name, _, named = where.partition(b"\n")
    settings = (entry.partition(b"\n") for entry in listed.split(b"\0") if entry)
    config = {os.fsdecode(key): os.fsdecode(value) if is_set else "true" for key, is_set, value in settings}
    git_dir = common = Path(os.fsdecode(named.removesuffix(b"\n")))
    with suppress(FileNotFoundError):  # only a linked worktree has this file
        shared = (git_dir / "commondir").read_bytes().removesuffix(b"\n")
        common = (git_dir / os.fsdecode(shared)).resolve()
    return _Project(here.top.resolve(), git_dir, common, hash_name.decode(), config)


def _set_up(shadow: Shadow, project: _Project, environ: Mapping[str, str], earlier: Path | None) -> None:
    settings = {name: project.config[name] for name in _COPIED if name in project.config} | _OWN
    for setting, file in (("core.excludesfile", "ignore"), ("core.attributesfile", "attributes")):
        source = _find_users_file(project.config.get(setting), file, environ)
        settings[setting] = str(_copy(source, shadow.folder / f"user-{file}"))
    common = project.common
    objects = [common and common / "objects", earlier]
    _git_directory(shadow.folder, settings, project.hash_name, [each for each in objects if each])
    _git_directory(shadow.plain, {"core.bare": "true"}, project.hash_name, [shadow.objects])
    info = shadow.folder / "info"
    info.mkdir()
    if common is not None:
        _copy(common / "info" / "attributes", info / "attributes")
        _copy(common / "info" / "exclude", info / "exclude")
    with (info / "exclude").open("a", encoding="utf-8") as exclude:
        # The temporary folder may lie inside of the project.
        exclude.write("\n".join(["", *AGENTS_OWN, f"{PREFIX}*/", ""]))
    if copy_index(shadow, "index"):
        # `git add` would skip files that have the mark "unchanged" or "skip".
        names = _MARKED.findall(b"\0" + shadow.checked("ls-files", "-v", "-z"))
        for flag in ("--no-assume-unchanged", "--no-skip-worktree") if names else ():
            shadow.checked("update-index", flag, "-z", "--stdin", stdin=b"\0".join(names))
        _forget_filtered(shadow, project.config)


def _forget_filtered(shadow: Shadow, config: Mapping[str, str]) -> None:
    """Forget the small files that a filter, such as git-lfs, converts on their way into the project's index.

    No filter runs here, so they are compared as they are on the disk.
    """
    settings = (key.removeprefix("filter.").rpartition(".") for key in config if key.startswith("filter."))
    drivers = {os.fsencode(name) for name, _, kind in settings if kind in ("clean", "process")}
    if not drivers:
        return
    names = shadow.checked("ls-files", "-z")
    fields = shadow.checked("check-attr", "-z", "--stdin", "filter", stdin=names).split(b"\0")
    small = []
    for path, driver in zip(fields[0::3], fields[2::3], strict=False):
        with suppress(OSError):
            if driver in drivers and (shadow.top / os.fsdecode(path)).lstat().st_size <= FILTERED_BYTES:
                small.append(path)
    shadow.forget(small)


def _git_directory(folder: Path, settings: Mapping[str, str], hash_name: str, alternates: list[Path]) -> None:
    """The least that git accepts as a repository; ``git init`` would be one more process."""
    (folder / "objects" / "info").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
    (folder / "objects" / "info" / "alternates").write_bytes(
        b"".join(quote(os.fsencode(path)) + b"\n" for path in alternates)
    )
    fixed = {"core.repositoryformatversion": "0"}
    if hash_name != "sha1":
        fixed = {"core.repositoryformatversion": "1", "extensions.objectformat": hash_name}
    lines = []
    for name, value in {**settings, **fixed}.items():
        section, _, key = name.partition(".")
        lines.append(b"[%s]\n\t%s = %s\n" % (section.encode(), key.encode(), quote(os.fsencode(value))))
    (folder / "config").write_bytes(b"".join(lines))


def quote(value: bytes) -> bytes:
    """In double quotes, as git reads strings in its configuration, alternates and lists of paths."""
    escaped = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'


def _find_users_file(configured: str | None, name: str, environ: Mapping[str, str]) -> Path | None:
    """The user's global ignore or attributes file: the configured one, or git's default."""
    home = environ.get("HOME")
    if configured:
        if configured.startswith("~/") and home:
            return Path(home, configured[2:])
        return Path(configured)
    folder = environ.get("XDG_CONFIG_HOME") or (home and str(Path(home, ".config")))
    return Path(folder, "git", name) if folder else None


def _copy(source: Path | None, target: Path) -> Path:
    """Copy a file, so that an agent's later edits to the original do not matter."""
    if source is not None:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError):
            shutil.copyfile(source, target)
    return target


def _no_room(error: OSError) -> DiskError:
    return DiskError(
        f"{tempfile.gettempdir()}: cannot record the state of the files: {error.strerror or error}",
        "Make room there, or name another folder in TMPDIR.",
    )
