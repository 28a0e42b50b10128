"""An upload is tried four times; what was stored although the answer was lost is stored once."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

program = Path(sys.argv[1], "bin/publish-release").resolve()
CURL = """#!/bin/bash
# Stores the file, and then fails as often as $WORLD/lost says.
for word; do last=$word; done
target=$WORLD/store/${last#https://example.com/}
mkdir -p "${target%/*}"
cp "${@: -2:1}" "$target"
echo "${last##*/}" >>"$WORLD/calls"
left=$(<"$WORLD/lost")
[ "$left" -eq 0 ] || { echo $((left - 1)) >"$WORLD/lost"; exit 56; }
"""


def publish(lost):
    with tempfile.TemporaryDirectory() as name:
        world = Path(name)
        (world / "bin").mkdir()
        (world / "bin/curl").write_text(CURL)
        (world / "bin/curl").chmod(0o755)
        (world / "release").mkdir()
        (world / "release/a tool.txt").write_text("a")
        (world / "release/b.txt").write_text("b")
        (world / "lost").write_text(f"{lost}\n")
        env = {**os.environ, "WORLD": name, "PUBLISH_PAUSE": "0", "PATH": f"{world}/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", program, world / "release", "https://example.com/"], env=env, capture_output=True, check=False
        )
        index = world / "store/index"
        files = sorted(path.read_text() for path in (world / "store/files").iterdir())
        calls = len((world / "calls").read_text().splitlines())
        return done.returncode, files, index.read_text() if index.exists() else None, calls


retries = "attempts" in program.read_text()
code, files, index, calls = publish(0)
assert (code, files, calls) == (0, ["a", "b"], 3)
assert "  a tool.txt\n" in index
code, files, index, calls = publish(3)
if retries:
    assert (code, files, calls) == (0, ["a", "b"], 6)
else:
    assert (code != 0, files, index, calls) == (True, ["a"], None, 1)
code, files, index, calls = publish(4)
assert code != 0
assert index is None
assert calls == (4 if retries else 1)
