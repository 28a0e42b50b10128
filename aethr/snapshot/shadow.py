"""A private git directory beside a project, so that its files can be recorded without touching its own.

The project may be hostile or become so while an agent works in it: what stands in its ``.git/config``
(a clean filter, fsmonitor, hooks) must not run because of us, and its index, refs and objects must stay
as they are. So git works here with its own configuration, index and object store on the project's work
tree; the project's objects are read as alternates.
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
from aethr.git.call import FIXED, environment

TIMEOUT_S = 600.0
"""Deadline of one git call, in seconds: the first one reads every file that git does not know yet."""

FILTERED_BYTES = 1_000_000
"""A larger file with a filter is not copied beforehand: that may be all that git-lfs has of a project."""

PREFIX = "aethr-snapshot-"

_PROGRAMS = ("PATH", "GIT_EXEC_PATH")
"""Variables that say where git finds its programs."""

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
"""Settings of the project that say how a file's bytes and mode are to be read; none names a program."""

_OWN = {
    "core.bare": "false",
    "core.fsmonitor": "false",
    "core.hookspath": os.devnull,
    "core.loosecompression": "1",
    "core.quotepath": "true",
    "core.safecrlf": "false",
    "core.splitindex": "false",
    "core.untrackedcache": "false",
    "advice.addembeddedrepo": "false",
    "gc.auto": "0",
    "protocol.allow": "never",
}

_MARKED = re.compile(rb"\0[a-zS] ([^\0]*)")
"""A marked file in what ``git ls-files -v -z`` lists."""

AGENTS_OWN = (
    "/.opencode/.gitignore",
    "/.opencode/opencode.json",
    "/.opencode/opencode.jsonc",
    "/.opencode/package.json",
    "/.opencode/package-lock.json",
    "/.opencode/bun.lock",
    "/.opencode/node_modules/",
)
"""What OpenCode writes for itself into a project: no part of a step's work unless it is tracked."""


class Shadow(NamedTuple):
    """The private directory, and the work tree it records.

    ``top`` is the project's top folder, ``git_dir`` its own git directory, None outside of git; ``common`` is
    where a linked worktree keeps what it shares with the others.
    ``plain`` is a second git directory over the same objects that knows no work tree, hence no
    ``.gitattributes``: what an agent writes there cannot hide a change.
    """

    folder: Path
    top: Path
    git_dir: Path | None
    common: Path | None
    program: str
    operators: Mapping[str, str]

    @property
    def objects(self) -> Path:
        """Loose objects: all of what is recorded here that the project's repository does not have."""
        return self.folder / "objects"

    @property
    def plain(self) -> Path:
        return self.folder / "plain"

    @property
    def rules(self) -> str:
        """A hash of what decides, outside of the tree, which files git ignores and how it converts them."""
        files = ("config", "info/exclude", "info/attributes", "user-ignore", "user-attributes")
        there = (self.folder / name for name in files)
        texts = (file.read_bytes() if file.exists() else b"" for file in there)
        return sha256(b"\0".join(texts).replace(os.fsencode(self.folder), b"")).hexdigest()

    def tree_git(self, *args: str, stdin: bytes | None = None, index: str = "index") -> Finished:
        """Run git on the work tree with an index of this directory; the caller looks at the code."""
        return self._run(self.top, self._tracking(self.top, index), args, stdin)

    @contextmanager
    def begun(self, *args: str, index: str = "index") -> Iterator[Callable[[], Finished]]:
        """``tree_git`` beside the block, which gets a function that waits for its end.

        All that git prints is in ``stderr``. The end of the block ends git.
        """
        argv, env = (self.program, *args), {**self.environment(), **self._tracking(self.top, index)}
        with stream(argv, cwd=self.top, env=env, timeout_s=TIMEOUT_S, merged=True) as child:

            def finished() -> Finished:
                said = b"".join(child.chunks())
                return Finished(argv, child.finish().code, b"", said)

            yield finished

    def untracked(self, folder: bytes) -> list[bytes]:
        """The files below a folder that git would take if it were the top of a new repository.

        Names are relative to the folder; what ends with a slash is another repository. Raises ``GitError``.
        """
        top = self.top / os.fsdecode(folder)
        words = ("ls-files", "-z", "--others", "--exclude-standard")
        done = self._run(top, self._tracking(top, "none"), words, None)
        if done.code != 0:
            raise failed(done)
        return done.stdout.split(b"\0")[:-1]

    def checked(self, *args: str, stdin: bytes | None = None, index: str = "index") -> bytes:
        """``tree_git`` that must succeed; gives its output. Raises ``GitError``."""
        done = self.tree_git(*args, stdin=stdin, index=index)
        if done.code != 0:
            raise failed(done)
        return done.stdout

    def forget(self, paths: Sequence[bytes], index: str = "index") -> None:
        """Take files out of the index, so that the next record reads them anew. Raises ``GitError``."""
        names = b"".join(path + b"\0" for path in paths)
        self.checked("update-index", "--force-remove", "-z", "--stdin", stdin=names, index=index)

    def write_tree(self, index: str) -> str:
        """The id of the tree that an index of this directory lists. Raises ``GitError``."""
        return self.checked("write-tree", "--missing-ok", index=index).decode().strip()

    def object_git(self, *args: str, stdin: bytes | None = None, index: str = "index") -> bytes:
        """Run git on what is recorded, without the work tree; gives its output. Raises ``GitError``."""
        done = self._run(self.plain, self.recorded(index), args, stdin)
        if done.code != 0:
            raise failed(done)
        return done.stdout

    def recorded(self, index: str) -> dict[str, str]:
        """The variables that show git what is recorded, and no work tree."""
        return {"GIT_DIR": str(self.plain), "GIT_INDEX_FILE": str(self.folder / index)}

    def project_git(self, *args: str, stdin: bytes | None = None) -> Finished:
        """Ask the project's own git directory something that reads refs and objects only."""
        assert self.git_dir is not None
        return self._run(self.top, {"GIT_DIR": str(self.git_dir)}, args, stdin)

    def _tracking(self, top: Path, index: str) -> dict[str, str]:
        return {
            "GIT_DIR": str(self.folder),
            "GIT_WORK_TREE": str(top),
            "GIT_INDEX_FILE": str(self.folder / index),
        }

    def environment(self) -> dict[str, str]:
        """Of the caller's only where programs are: no configuration of the user or the system is read."""
        return {
            **self.operators,
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
            **FIXED,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
        }

    def _run(
        self, cwd: Path, places: Mapping[str, str], args: tuple[str, ...], stdin: bytes | None
    ) -> Finished:
        argv = (self.program, *args)
        return run(argv, cwd=cwd, env={**self.environment(), **places}, timeout_s=TIMEOUT_S, stdin=stdin)


@contextmanager
def opened(root: Path, environ: Mapping[str, str], objects: Path | None = None) -> Iterator[Shadow]:
    """A shadow of the project that ``root`` lies in, removed at the end of the block.

    ``objects`` is a folder with git objects of an earlier one, to be read from as well.

    Raises ``GitMissingError``, ``GitError`` for a repository that git refuses, ``DiskError``.
    """
    program = shutil.which("git", path=environ.get("PATH"))
    if program is None:
        raise GitMissingError("git: not found", "Install git, or put it on PATH.")
    project = _project(program, root, environ)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    except OSError as error:
        raise _no_room(error) from error
    try:
        operators = {"PATH": os.defpath, **{name: environ[name] for name in _PROGRAMS if name in environ}}
        shadow = Shadow(folder, project.top, project.git_dir, project.common, program, operators)
        try:
            _fill(shadow, project, environ, objects)
        except OSError as error:
            raise _no_room(error) from error
        yield shadow
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_index(shadow: Shadow, name: str) -> bool:
    """Copy the project's index here, with its time: git trusts a file's time only if it is older.

    A split index lies in two files; git never changes the shared one, and may be reading its copy just now.
    False where there is none: before the first commit, or without git.
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


def failed(done: Finished) -> GitError:
    """The error of a git call that must not fail: its last fatal line."""
    lines = done.stderr.splitlines() or [b"no message"]
    said = next((line for line in lines if line.startswith(b"fatal: ")), lines[0])
    return GitError(
        f"cannot record the state of the files: git said {reveal_name(said[:500])}",
        "`git status` and `git fsck` say what is wrong.",
    )


class _Project(NamedTuple):
    """What must be known of a project before an agent works in it. ``config`` has lower-case keys."""

    top: Path
    git_dir: Path | None = None
    hash_name: str = "sha1"
    config: Mapping[str, str] = MappingProxyType({})

    @property
    def common(self) -> Path | None:
        """Where a linked worktree keeps what it shares with the others."""
        if self.git_dir is None:
            return None
        try:
            named = (self.git_dir / "commondir").read_bytes().removesuffix(b"\n")
        except FileNotFoundError:
            return self.git_dir
        return (self.git_dir / os.fsdecode(named)).resolve()


_QUESTIONS = ("rev-parse --show-object-format --absolute-git-dir", "config --list -z")
"""Asked of a project's git side by side; nothing of it runs a program that its configuration names."""


def _project(program: str, root: Path, environ: Mapping[str, str]) -> _Project:
    env = environment(root, environ)

    def ask(words: str) -> bytes:
        done = run((program, *words.split()), cwd=root, env=env, timeout_s=TIMEOUT_S)
        if done.code != 0:
            raise failed(done)
        return done.stdout

    with ThreadPoolExecutor(len(_QUESTIONS)) as beside:
        answers = beside.map(ask, _QUESTIONS)
        here = git.checkout(root)
    if here is None:
        return _Project(root.resolve())
    where, listed = answers
    hash_name, _, named = where.partition(b"\n")
    settings = (entry.partition(b"\n") for entry in listed.split(b"\0") if entry)
    config = {os.fsdecode(key): os.fsdecode(value) if is_set else "true" for key, is_set, value in settings}
    return _Project(
        top=here.top.resolve(),
        git_dir=Path(os.fsdecode(named.removesuffix(b"\n"))),
        hash_name=hash_name.decode(),
        config=config,
    )


def _fill(shadow: Shadow, project: _Project, environ: Mapping[str, str], earlier: Path | None) -> None:
    settings = {name: project.config[name] for name in _COPIED if name in project.config} | _OWN
    for setting, file in (("core.excludesfile", "ignore"), ("core.attributesfile", "attributes")):
        source = _users_file(project.config.get(setting), file, environ)
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
        _unmark(shadow)
        _forget_filtered(shadow, _drivers(project.config))


def _unmark(shadow: Shadow) -> None:
    """Files marked as unchanged or outside of a sparse checkout: ``git add`` would skip them."""
    names = _MARKED.findall(b"\0" + shadow.checked("ls-files", "-v", "-z"))
    if names:
        listed = b"\0".join(names)
        for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
            shadow.checked("update-index", flag, "-z", "--stdin", stdin=listed)


def _drivers(config: Mapping[str, str]) -> frozenset[bytes]:
    """The filters that change a file on its way into the project's repository, such as git-lfs."""
    names = (key.removeprefix("filter.").rpartition(".") for key in config if key.startswith("filter."))
    return frozenset(os.fsencode(name) for name, _, kind in names if kind in ("clean", "process"))


def _forget_filtered(shadow: Shadow, drivers: frozenset[bytes]) -> None:
    """Files of which the index has a filter's form: no filter runs here, so their form on the disk counts."""
    if not drivers:
        return
    listed = shadow.checked("ls-files", "-z")
    fields = shadow.checked("check-attr", "-z", "--stdin", "filter", stdin=listed).split(b"\0")
    filtered = (path for path, name in zip(fields[0::3], fields[2::3], strict=False) if name in drivers)
    shadow.forget([path for path in filtered if _is_small(shadow.top / os.fsdecode(path))])


def _is_small(file: Path) -> bool:
    try:
        return file.lstat().st_size <= FILTERED_BYTES
    except OSError:
        return False


def _git_directory(folder: Path, settings: Mapping[str, str], hash_name: str, alternates: list[Path]) -> None:
    """The least that git takes for a repository; ``git init`` would run one more process."""
    (folder / "objects" / "info").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
    (folder / "objects" / "info" / "alternates").write_bytes(
        b"".join(quoted(os.fsencode(path)) + b"\n" for path in alternates)
    )
    fixed = {"core.repositoryformatversion": "0"}
    if hash_name != "sha1":
        fixed = {"core.repositoryformatversion": "1", "extensions.objectformat": hash_name}
    lines = []
    for name, value in {**settings, **fixed}.items():
        section, _, key = name.partition(".")
        lines.append(b"[%s]\n\t%s = %s\n" % (section.encode(), key.encode(), quoted(os.fsencode(value))))
    (folder / "config").write_bytes(b"".join(lines))


def quoted(value: bytes) -> bytes:
    """In double quotes, as git reads it in its configuration, lists of alternates and lists of paths."""
    escaped = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'


def _users_file(configured: str | None, name: str, environ: Mapping[str, str]) -> Path | None:
    """The user's global ignore or attributes file, by git's own rule where nothing names one."""
    home = environ.get("HOME")
    if configured:
        if configured.startswith("~/") and home:
            return Path(home, configured[2:])
        return Path(configured)
    folder = environ.get("XDG_CONFIG_HOME") or (home and str(Path(home, ".config")))
    return Path(folder, "git", name) if folder else None


def _copy(source: Path | None, target: Path) -> Path:
    """A copy, so that what an agent writes into the original while it works has no effect."""
    if source is not None:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError):
            shutil.copyfile(source, target)
    return target


def _no_room(error: OSError) -> DiskError:
    return DiskError(
        f"{tempfile.gettempdir()}: cannot record the state of the files: {error.strerror or error}",
        "Make room there, or name another folder in TMPDIR.",
    )
