"""``aethr demo``: a review to look at, without a key.

The change and the answer come with Aethr. Everything between them is real: a git repository, the diff, the
prompt, the reading of the answer, and the output.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from aethr.base.options import RunOptions
from aethr.base.words import fold, terminal_width
from aethr.config import WORKFLOW_FILE, data_folder
from aethr.git import call
from aethr.output.render import Display, is_interactive, make_renderer
from aethr.run import execute, prepare

TASK = "review my change"
FIRST = "EXAMPLE: change and answer come with Aethr; no model is called."
LAST = "EXAMPLE: no model was called, so this is not a review."
AUTHOR = {"user.name": "Aethr", "user.email": "demo@example.invalid", "commit.gpgSign": "false"}
COMPILED = shutil.ignore_patterns("__pycache__")
"""pip compiles every ``.py`` of a wheel, also those of the example."""
NEXT = """\
Your own change, with a key:
  aethr auth login openai
  aethr run --preset review-existing-diff "review my changes"
"""


def main() -> int:
    """Review the example change with the example answer, in a temporary repository. Raises ``AethrError``."""
    files = data_folder("demo")
    colour = is_interactive(sys.stdout, os.environ) and not os.environ.get("NO_COLOR")
    _say(FIRST)
    with tempfile.TemporaryDirectory(prefix="aethr-demo-") as folder:
        root = Path(folder).resolve()
        shutil.copytree(files / "before", root, dirs_exist_ok=True, ignore=COMPILED)
        shutil.copyfile(files / "workflow.yaml", root / WORKFLOW_FILE)
        call.checked(root, "init", "--quiet", "--template=")
        call.checked(root, "add", "--force", ".")
        call.checked(root, *call.settings(AUTHOR), "commit", "--quiet", "--no-verify", "--message=Before")
        shutil.copytree(files / "after", root, dirs_exist_ok=True, ignore=COMPILED)
        diff = call.checked(root, "diff", "--no-ext-diff", f"--color={'always' if colour else 'never'}")
        sys.stdout.write(f'\n$ git diff\n{diff.decode()}\n$ aethr run "{TASK}"\n')
        sys.stdout.flush()
        options = RunOptions(
            task=TASK, replies=str(files / "replies.yaml"), checkpoint_dir=str(root / ".git")
        )
        # Neither a switch of Aethr's nor a key has anything to do with it.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AETHR_")}
        prepared = prepare(options, root, environ)
        outcome = execute(prepared, make_renderer(Display(stream=False), sys.stdout, sys.stderr, environ))
        if outcome.error is not None:
            outcome.error.resume = ""  # its checkpoint goes with the folder
            raise outcome.error
    sys.stdout.write(f"\n{NEXT}\n")
    _say(LAST)
    return outcome.result.exit_code


def _say(line: str) -> None:
    sys.stdout.write("".join(f"{part}\n" for part in fold(line, terminal_width(sys.stdout))))
