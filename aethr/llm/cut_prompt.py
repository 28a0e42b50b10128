"""Whether a server read all of a prompt, by the tokens that it counted (pure).

Servers of local models cut a prompt that is longer than their window and say nothing: Ollama keeps some four
tokens of its beginning and about the last half of the window, and counts what it kept.
"""

from __future__ import annotations

import re

from aethr.records import Usage

MEANINGFUL = 8192
"""In characters: in a shorter prompt the comparison means little, and hardly a window is so small."""
PER_TOKEN = 8
"""Characters a token in no text of that length, with any tokenizer.

Prose and code have three to five in the largest vocabularies there are (200,000 to 260,000 tokens); letters
beyond ASCII fewer, so characters are counted and not bytes. Only a run of one letter, such as the indentation
of code or a ruled line, has more: of each run as much is counted as a token may hold.
"""
WAY_OUT = (
    "raise the server's window (OLLAMA_CONTEXT_LENGTH for Ollama), or lower limits.context_chars "
    "or the step's context_chars"
)
_RUN = re.compile(rf"(.)\1{{{PER_TOKEN},}}", re.DOTALL)


def cut_prompt(prompt: str, usage: Usage) -> str | None:
    """How it is known that the server read only a part of ``prompt``; None where it may have read it all.

    A count of zero is none: some servers leave it out for a prompt that they have in their cache.
    """
    counted = usage.prompt_tokens
    if not counted or len(prompt) < MEANINGFUL:
        return None
    if counted * PER_TOKEN >= sum(map(len, _RUN.split(prompt)[::2])) + PER_TOKEN * len(_RUN.findall(prompt)):
        return None
    return f"the server counted {counted:,} tokens for {len(prompt):,} characters; {WAY_OUT}"
