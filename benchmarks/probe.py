"""Run one command of Aethr in this process and note what it needed: ``probe.py NOTES [ARGUMENT]…``.

NOTES becomes a JSON file: ``modules`` that the command loaded, ``children`` that it started (their
arguments), ``maxrss`` of this process alone, as the system counts it.
"""

from __future__ import annotations

import sys
from typing import Any


def main() -> int:
    notes, words = sys.argv[1], sys.argv[2:]
    del sys.path[0]  # this folder is not on the path of an installed command
    before = set(sys.modules)
    children: list[list[str]] = []

    def hear(event: str, args: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            children.append([str(word) for word in args[1]])

    sys.addaudithook(hear)
    from aethr.cli import main as aethr

    code = aethr(words)
    modules = sorted(set(sys.modules) - before)
    import json
    import resource

    maxrss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(notes, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib is among what is counted
        json.dump({"modules": modules, "children": children, "maxrss": maxrss}, file)
    return code


if __name__ == "__main__":
    sys.exit(main())
