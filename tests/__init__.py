"""The tests of Aethr. What is compiled for them is kept, so that no process has to compile it again."""

import os
import sys
from pathlib import Path

if sys.dont_write_bytecode:
    # Whoever sets PYTHONDONTWRITEBYTECODE wants no __pycache__ among the sources: pytest has a cache folder.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
