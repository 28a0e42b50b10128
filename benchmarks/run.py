"""How fast, how small and how scalable Aethr is beside a floor: ``python benchmarks/run.py --help``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python looks beside this file; the packages `benchmarks` and `tests` are one folder up.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.command import main

    sys.exit(main())
