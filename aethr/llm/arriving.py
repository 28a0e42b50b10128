"""An answer as it arrives, and whether it is a finished one."""

from __future__ import annotations

from aethr.base.records import Usage
from aethr.llm import BROKEN, FINISHED, LENGTH, REFUSED, CallFailed, Chunk
from aethr.llm.spending import is_plausible

LONGEST_ANSWER = 8_000_000
"""In characters: no model writes so much, so a server that sends more is broken."""


class Arriving:
    """An answer as it grows, ``length`` in characters. Half of a surrogate pair waits for its other half.

    ``ended`` is True once its stream has ended.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.notes: list[str] = []
        self.ended = False
        self._pieces: list[str] = []
        self._refusal = ""
        self._goes_on = False  # after an end: some gateways send one with each piece
        self.length = 0
        self._half = ""

    @property
    def complete(self) -> bool:
        """Whether it has text, and the provider has said that this is the end."""
        ended = self.finish_reason is not None and self.finish_reason.lower() not in BROKEN
        return ended and not self._goes_on and bool(self.text.strip())

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def add(self, chunk: Chunk) -> str:
        """Take a chunk; return the text that can be shown."""
        self._goes_on = self.finish_reason is not None and (self._goes_on or chunk.text.strip() != "")
        if self.finish_reason is None or self.finish_reason.lower() in FINISHED:
            self.finish_reason = chunk.finish_reason or self.finish_reason  # a later word does not undo a cut
        if chunk.usage is not None and is_plausible(chunk.usage):
            self.usage = chunk.usage
        if chunk.note:
            self.notes.append(chunk.note)
        self._refusal += chunk.refusal
        text = self._half + chunk.text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return self._keep(text[: len(text) - len(self._half)])

    def finish(self) -> str:
        """End the stream; return the text that was held back."""
        self.ended = True
        half, self._half = self._half, ""
        return self._keep(half)

    def check(self) -> None:
        """Raise ``CallFailed`` unless this is a finished answer."""
        reason = (self.finish_reason or "").lower()
        if reason in BROKEN:
            raise CallFailed(BROKEN[reason], f"the answer ended with '{self.finish_reason}'")
        if self._refusal.strip():
            raise CallFailed("refusal", self._refusal)
        if not reason and self.length:
            raise CallFailed(
                "cut", f"the stream ended without a finish reason after {self.length:,} characters"
            )
        if not reason:
            raise CallFailed("garbage", "it ended without any text")
        if self.text.strip():
            return
        if reason in LENGTH:
            answered = self.usage.completion_tokens if self.usage else None
            count = f"{answered:,} " if answered is not None else ""
            raise CallFailed("all_thought", f"all {count}answer tokens went to thinking")
        raise CallFailed(REFUSED.get(reason, "empty"), f"no text, finish reason '{self.finish_reason}'")

    def _keep(self, text: str) -> str:
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self._pieces.append(whole)
        self.length += len(whole)
        if self.length > LONGEST_ANSWER:
            raise CallFailed("garbage", f"it is longer than {LONGEST_ANSWER:,} characters")
        return whole
