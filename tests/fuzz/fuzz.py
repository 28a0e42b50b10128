"""Coverage-guided fuzzing of what reads untrusted text; ``pip install atheris`` first.

    python -m tests.fuzz.fuzz config     [libFuzzer options, such as -max_total_time=600]
    python -m tests.fuzz.fuzz checkpoint
    python -m tests.fuzz.fuzz review
    python -m tests.fuzz.fuzz schema       (a review as JSON)
    python -m tests.fuzz.fuzz github       (an answer of GitHub's API)
    python -m tests.fuzz.fuzz event        (the file of an event)
    python -m tests.fuzz.fuzz environment  (the variables of a runner)
    python -m tests.fuzz.fuzz stream       (what a model's server streams)
    python -m tests.fuzz.fuzz agent        (what an agent prints)
    python -m tests.fuzz.fuzz --list     names the targets, one a line

It starts from the cases in ``tests/data`` and stops at the first input that breaks an oracle, takes more
than twelve seconds of processor time, or does not end within a minute; that input is left in the
current folder as ``crash-…`` or ``timeout-…``. A folder among the options is where it keeps each new input
that reaches more, and starts from the next time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["aethr", "yaml", "json"]):
    from tests import oracles
    from tests.fuzz import seeds


MOST_S = 12
"""Of processor time, which other programs do not lengthen. To be traced takes up to thirty times as long."""


@dataclass(frozen=True)
class Target:
    """What is called with each text, the texts to begin with, and words that mean something in them.

    ``errors`` is what becomes of bytes that are not UTF-8.
    """

    oracle: Callable[[str], object]
    seeds: Callable[[], list[str]]
    words: tuple[str, ...]
    errors: str = "surrogateescape"

    def try_once(self, data: bytes) -> None:
        begin = time.process_time()
        self.oracle(data.decode("utf-8", self.errors))
        took = time.process_time() - begin
        assert took < MOST_S, f"{took:.1f} s for {len(data)} bytes"


TARGETS: Mapping[str, Target] = {
    "config": Target(oracles.a_workflow_or_its_mistakes, seeds.workflows, seeds.YAML_WORDS, "replace"),
    "checkpoint": Target(oracles.a_checkpoint_or_one_line, seeds.checkpoints, seeds.JSON_WORDS, "replace"),
    "review": Target(oracles.a_pass_only_when_it_is_said, seeds.reviews, seeds.REVIEW_WORDS, "replace"),
    "schema": Target(oracles.a_review_as_json, seeds.reviews_as_json, seeds.SCHEMA_WORDS, "replace"),
    "github": Target(oracles.an_answer_of_github_or_one_line, seeds.answers_of_github, seeds.HTTP_WORDS),
    "event": Target(oracles.an_event_or_one_line, seeds.events, seeds.JSON_WORDS),
    "environment": Target(oracles.an_environment_or_one_line, seeds.environments, seeds.ENVIRONMENT_WORDS),
    "stream": Target(oracles.a_stream_of_events_or_a_failed_call, seeds.streams, seeds.JSON_WORDS),
    "agent": Target(oracles.the_lines_of_an_agent, seeds.lines_of_agents, seeds.JSON_WORDS),
}


def main(argv: list[str]) -> None:
    if argv[1:] == ["--list"]:
        print(*TARGETS, sep="\n")  # noqa: T201 - for a script to read
        return
    target = TARGETS[argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(target.seeds()):
            (corpus / str(number)).write_bytes(seed.encode())
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        arguments = [argv[0], "-timeout=60", "-max_len=4096", f"-dict={words}", *argv[2:], str(corpus)]
        atheris.Setup(arguments, target.try_once)
        atheris.Fuzz()


def _escaped(word: str) -> str:
    """As libFuzzer reads its dictionaries: bytes, and no escape but this one."""
    return "".join(
        f"\\x{byte:02x}" if not 32 <= byte < 127 or byte in b'"\\' else chr(byte)
        for byte in word.encode("utf-8", "surrogatepass")
    )


if __name__ == "__main__":
    main(sys.argv)
