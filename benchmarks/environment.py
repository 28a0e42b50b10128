"""The environment that is measured: the packages of this one, without what development tools hook into it.

A line of a ``.pth`` file may run a program at every start of Python, and pre-commit-uv has one that takes as
long as Python itself. Whoever installs Aethr has none of them.
"""

from __future__ import annotations

import site
import venv
from pathlib import Path

from benchmarks.server import ROOT


def made(folder: Path) -> Path:
    """Make it in ``folder``, without a download; gives the folder of its ``python`` and ``aethr``."""
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    # A folder that a .pth file names is searched, but the .pth files in it are not read.
    (packages / "measured.pth").write_text("".join(f"{path}\n" for path in (ROOT, *site.getsitepackages())))
    program = folder / "bin" / "aethr"
    program.write_text(f"#!{folder}/bin/python\nfrom aethr.cli import program\n\nprogram()\n")
    program.chmod(0o755)
    return program.parent
