"""A dump that fails half-way is reported, and is not kept as a dump."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

program = Path(sys.argv[1], "bin/nightly-dump").resolve()
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "dumps").mkdir()
    (folder / "pg_dump").write_text('#!/bin/sh\necho "CREATE TABLE a (b);"\nexit "$PG_DUMP_EXIT"\n')
    (folder / "pg_dump").chmod(0o755)

    def dump(code):
        env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PG_DUMP_EXIT": str(code)}
        done = subprocess.run(
            ["sh", program, "shop", folder / "dumps"], env=env, capture_output=True, check=False
        )
        return done.returncode, sorted(path.name for path in (folder / "dumps").iterdir())

    code, failed = dump(1)
    if code == 0 or failed:
        sys.exit(f"pg_dump failed; exit code {code}, and kept as a dump: {failed}")
    code, complete = dump(0)
    assert code == 0
    assert len(complete) == 1
