"""Two processes never run under one lock, when the second one comes just before the first one takes it.

``mkdir`` and ``uname`` are the commands that base and head start right before the lock is taken. The first
process gets others of these names, which start the second process and wait until its command runs.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

program = Path(sys.argv[1], "bin/single-run").resolve()
HOOK = """#!/bin/sh
PATH=${PATH#*:}
if [ -p "$WORLD/started" ]; then
    {
        sh "$PROGRAM" "$WORLD/lock" sh -c 'echo second begins >>"$WORLD/log"; echo >"$WORLD/started"
            read -r _ <"$WORLD/go"; echo second ends >>"$WORLD/log"'
        echo >"$WORLD/done"
    } >/dev/null 2>&1 &
    read -r _ <"$WORLD/started"
    rm "$WORLD/started"
fi
exec NAME "$@"
"""

with tempfile.TemporaryDirectory() as name:
    world = Path(name)
    (world / "hooks").mkdir()
    for command in ("mkdir", "uname"):
        (world / "hooks" / command).write_text(HOOK.replace("NAME", command))
        (world / "hooks" / command).chmod(0o755)
    for pipe in ("started", "go", "done"):
        os.mkfifo(world / pipe)
    env = {**os.environ, "WORLD": name, "PROGRAM": str(program), "PATH": f"{world}/hooks:{os.environ['PATH']}"}
    first = ["sh", program, world / "lock", "sh", "-c", 'echo first >>"$WORLD/log"']
    code = subprocess.run(first, env=env, stderr=subprocess.DEVNULL, timeout=30, check=False).returncode
    if (world / "started").exists():
        sys.exit("the second process was never started")
    (world / "go").write_text("\n")
    (world / "done").read_text()
    log = (world / "log").read_text().splitlines()
if log[:2] == ["second begins", "first"]:
    sys.exit(f"the first command ran while the second one did; exit code {code}")
assert code == 75
assert log == ["second begins", "second ends"]
