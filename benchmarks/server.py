"""The servers of the tests as a process of their own: ``python -m benchmarks.server models|github``.

The first line is the address; it serves until its standard input ends. What the model says follows from the
name that it is called by: ``stream-CHUNKSxSIZE`` is so many pieces of so many characters, ``slow-MS`` takes
about so many milliseconds, any other passes at once.
``--log FILE`` gets a line for each request.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FIRST = "Looks right."
"""What an answer begins with."""
SLOW_EVENTS = 7
"""The events of a short answer in OpenAI's protocol; the server waits after each."""


def reply(body: dict[str, Any]) -> Any:
    """The answer to a call; the piece of a long one is words and a line's end, as prose is."""
    from tests.model_server import Reply

    wanted = re.fullmatch(r"stream-(\d+)x(\d+)", str(body.get("model", "")))
    count, size = map(int, wanted.groups()) if wanted else (0, 0)
    slow = re.fullmatch(r"slow-(\d+)", str(body.get("model", "")))
    delay_s = int(slow[1]) / 1000 / SLOW_EVENTS if slow else 0.0
    piece = ("some more words " * (size // 16 + 1))[: size - 1] + "\n" if size else ""
    return Reply(chunks=(FIRST, "\n", *[piece] * count, "\nReview status: pass"), delay_s=delay_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("models", "github"))
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    if options.kind == "models":
        from tests.model_server import ModelServer

        with ModelServer(reply, log=options.log) as models:
            _serve(models.base_url)
    else:
        from tests.github.github_server import GitHubServer

        with GitHubServer() as github:
            _serve(github.url)


def _serve(address: str) -> None:
    print(address, flush=True)
    sys.stdin.buffer.read()


@contextmanager
def serving(kind: str, log: Path | None = None) -> Iterator[str]:
    """A server, by its address, for as long as the block runs."""
    words = [sys.executable, "-m", "benchmarks.server", kind, *(["--log", str(log)] if log else [])]
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate()


if __name__ == "__main__":
    main()
