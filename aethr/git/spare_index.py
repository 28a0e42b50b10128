"""A copy of the index that also names every new file: what ``git add -A`` would make of it.

The repository's own index is only read, and no object is written: git reads the content of each file from
the disk when it compares.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aethr.errors import DiskError
from aethr.git import call

_OWN = {"core.splitIndex": "false", "core.untrackedCache": "false"}
"""Or git would put a part of the copy into the repository's folder."""


@contextmanager
def with_new_files(top: Path, options: Sequence[str]) -> Iterator[Path]:
    """The copy's path; it is gone after the block. Raises ``GitError``, ``DiskError``.

    ``options`` switch off the filters of the repository: to write an index git reads each file again that was
    written in the same moment as its entry (https://git-scm.com/docs/racy-git).
    """
    listed = call.checked(top, "ls-files", "-z", "--others", "--exclude-standard")
    names = [name for name in listed.split(b"\0") if name]
    own = top / os.fsdecode(call.checked(top, "rev-parse", "--git-path", "index").removesuffix(b"\n"))
    try:
        folder = tempfile.TemporaryDirectory(prefix="aethr-index-", ignore_cleanup_errors=True)
    except OSError as error:
        raise DiskError(f"no room for a copy of git's index: {error.strerror}", "Is TMPDIR full?") from error
    with folder as name:
        index = Path(name, "index")
        try:
            if own.is_file():
                shutil.copy2(own, index)  # with its time: git takes an entry for fresh only if it is older
        except OSError as error:
            raise DiskError(f"cannot copy {own}: {error.strerror}", "Is TMPDIR full?") from error
        empty = call.checked(top, "hash-object", "--stdin", stdin=b"").decode().strip()
        rows = b"".join(_row(top, name, empty) for name in names)
        call.checked(
            top,
            *call.settings(_OWN),
            *options,
            *("update-index", "--add", "--replace", "-z", "--index-info"),
            stdin=rows,
            index=index,
        )
        yield index


def _row(top: Path, name: bytes, empty: str) -> bytes:
    """The entry of a new file, without its content; of another repository the commit checked out there.

    A repository without a commit has no entry: ``git add`` takes none of it.
    """
    path = top / os.fsdecode(name)
    if not name.endswith(b"/"):
        mode = "120000" if path.is_symlink() else "100644"  # git asks the disk whether it can be executed
        return f"{mode} {empty} 0\t".encode() + name + b"\0"
    head = call.run(path, "rev-parse", "--verify", "--quiet", "HEAD")
    if head.code != 0:
        return b""
    return f"160000 {head.stdout.decode().strip()} 0\t".encode() + name.rstrip(b"/") + b"\0"
