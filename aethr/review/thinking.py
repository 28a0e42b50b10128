"""What a model thinks before it answers, where its server leaves that in the text of the answer (pure).

Servers without a reasoning parser (vLLM, LM Studio, llama.cpp, Ollama's ``/v1``) pass a model's thinking on
inside the answer. Some chat templates open the block in the prompt, so only its closing tag arrives
(https://github.com/vllm-project/vllm/issues/13125).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_NAME = r"(?:\w{1,20}:)?(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad)"
_PAIRS = (
    (rf"<{_NAME}(?:\s[^<>\n]{{0,100}})?>", rf"</{_NAME}\s*>"),
    (r"\[THINK\]", r"\[/THINK\]"),  # Mistral's Magistral
    (r"◁think▷", r"◁/think▷"),  # Kimi
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Cohere
    (
        r"(?:<\|start\|>assistant)?<\|channel\|>analysis<\|message\|>",
        r"<\|channel\|>final<\|message\|>",
    ),  # gpt-oss without its parser
)
_OPEN = re.compile(r"\s*(?:" + "|".join(f"({opening})" for opening, _ in _PAIRS) + ")", re.IGNORECASE)
_CLOSE = tuple(re.compile(closing, re.IGNORECASE) for _, closing in _PAIRS)
_ANY_CLOSE = re.compile("|".join(closing for _, closing in _PAIRS), re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_MOST_BLOCKS = 50
_LONGEST_LINE = 10_000
LONGEST_TAG = 130
"""In characters: an opening tag that is longer is text."""


class Split(NamedTuple):
    """An answer taken apart. ``finished`` is False where the thinking has no end: then there is no answer."""

    thinking: str
    answer: str
    finished: bool = True


def split(text: str) -> Split:
    """What was thought, and what was answered.

    Thinking is a block at the very beginning, as many as follow each other, and all that stands before a lone
    closing tag. A tag in code, or in the middle of a sentence, is text under review.
    """
    at = 0
    for _ in range(_MOST_BLOCKS):
        opened = _OPEN.match(text, at)
        if opened is None:
            break
        end = _end_of(text, opened.end(), _CLOSE[(opened.lastindex or 1) - 1])
        if end is None:
            return Split(text[at:], "", finished=False)
        at = end
    at = max(_closing(text, at, _ANY_CLOSE), default=at)
    return Split(text[:at], text[at:].lstrip() if at else text)


def _end_of(text: str, start: int, closing: re.Pattern[str]) -> int | None:
    """The end of the first closing tag outside of code, else of the first one at all: thoughts are untidy."""
    found = next(_closing(text, start, closing), None)
    if found is None:
        match = closing.search(text, start)
        found = match.end() if match else None
    return found


def _closing(text: str, start: int, closing: re.Pattern[str]) -> Iterator[int]:
    """Where closing tags end that are not in a code block or span, nor a word of a sentence."""
    if closing.search(text, start) is None:
        return
    fence = ""
    for line_start, line in _lines(text, start):
        match = _FENCE.fullmatch(line)
        if match and not fence and not ("`" in match[2] and match[1][0] == "`"):
            fence = match[1]
        elif match and fence and match[1].startswith(fence) and not match[2].strip():
            fence = ""
        elif not fence and len(line) <= _LONGEST_LINE:
            code = [found.span() for found in _CODE.finditer(line)]
            for tag in closing.finditer(line):
                in_code = any(first <= tag.start() < last for first, last in code)
                before, after = line[: tag.start()], line[tag.end() :]
                in_sentence = (
                    before[-1:].isspace() and before.strip() and after[:1].isspace() and after.strip()
                )
                if not in_code and not in_sentence:
                    yield line_start + tag.end()


def _lines(text: str, start: int) -> Iterator[tuple[int, str]]:
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, text[start:end].removesuffix("\r")
        start = end + 1


class Filter:
    """The same for a text that is still arriving: what may be shown of it.

    A lone closing tag comes too late: what stood before it has been shown.
    """

    def __init__(self) -> None:
        self.thinking = False
        self._thought = False
        self._held = ""
        self._answering = False
        self._closing = _ANY_CLOSE

    def feed(self, text: str) -> str:
        """What of the text so far is the answer and was not given yet."""
        if self._answering:
            return text
        self._held += text
        while True:
            if self.thinking:
                closed = self._closing.search(self._held)
                if closed is None:
                    self._held = self._held[-LONGEST_TAG:]
                    return ""
                self._held, self.thinking = self._held[closed.end() :], False
            opened = _OPEN.match(self._held)
            if opened is None:
                break
            self._held, self.thinking, self._thought = self._held[opened.end() :], True, True
            self._closing = _CLOSE[(opened.lastindex or 1) - 1]
        return self.close() if self._is_no_tag() else ""

    def close(self) -> str:
        """The end of the text, or of the doubt: what was held back."""
        rest = "" if self.thinking else self._held
        self._held, self._answering = "", True
        return rest.lstrip() if self._thought else rest

    def _is_no_tag(self) -> bool:
        start = self._held.lstrip().casefold()
        if len(start) > LONGEST_TAG or start[:1] not in ("", "<", "[", "◁"):
            return True
        if start.startswith("<|"):
            return "\n" in start
        if start.startswith("<"):
            return ">" in start or "\n" in start
        return not any(tag.startswith(start) for tag in ("[think]", "◁think▷"))
