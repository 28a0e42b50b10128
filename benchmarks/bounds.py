"""The most of everything that is counted. A smaller count is progress: lower its bound with it.

The counts of modules have some slack, as each version of Python loads a few more or fewer; nothing else has.
"""

from __future__ import annotations

MODULES = {
    "version": 22, "--help": 25, "init --list": 33, "check": 140, "models": 165, "run --show-prompt": 125,
    "run, mock": 138, "hook, mock": 140, "run, direct": 300, "hook, direct": 300,
    "run, mock, all context": 138, "hook, direct, all context": 300,
}  # fmt: skip
PROCESSES = {
    "version": 0, "--help": 0, "init --list": 0, "check": 4, "models": 0, "run --show-prompt": 4,
    "run, mock": 4, "hook, mock": 3, "run, direct": 4, "hook, direct": 5,
    "run, mock, all context": 8, "hook, direct, all context": 10,
}  # fmt: skip
BOUNDS: dict[str, float] = {
    **{f"{name}: modules": most for name, most in MODULES.items()},
    **{f"{name}: modules it must not load": 0 for name in MODULES},
    **{f"{name}: processes": most for name, most in PROCESSES.items()},
    "run, direct: requests": 1,
    "run, litellm: requests": 1,
    "terminal: redraws a second": 9,  # 8 frames, and the last one
    "pipe: writes for each chunk": 1.1,
    "git_diff of 3,300 files: processes": 7,
    "git_diff beside glob: processes": 6,
    "git_diff: MB more for 40 MB than for 20 MB": 4,
    "glob: ignored folders read": 0,
    "checkpoint: bytes of 20 steps / of 10": 2.2,  # linear is 2
}
