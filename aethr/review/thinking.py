"""Separates a model's thinking from its answer, if the server sends both as one text (pure).

Servers without a reasoning parser (vLLM, LM Studio, llama.cpp, Ollama's ``/v1``) leave the thinking in the
answer. Some chat templates open the block in the prompt, so that only its closing tag arrives
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
_SAID = re.compile(
    r"^\W*(?:review[\s_-]*status\W+revise\W*|(?:\d{1,3}[.)]\W*)?\[\W*(?:high|medium)\b[^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
"""A ``revise``, or a finding that makes one."""
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_LINE = re.compile(r"[^\n]+")  # an empty line has no tag, and opens no fence
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_BELOW_ITEM = re.compile(r"(?:\t| {2,})")
_ITEM = re.compile(r"[-*+] |\d{1,3}[.)] ")
_MOST_BLOCKS = 50
_LONGEST_LINE = 10_000
LONGEST_TAG = 130
"""In characters: longer tags are text."""


class Split(NamedTuple):
    """The two parts. ``finished`` is False if the thinking does not end; there is no answer then."""

    thinking: str
    answer: str
    finished: bool = True


def split(text: str) -> Split:
    """The thinking and the answer.

    Thinking is every block at the beginning, and everything before a closing tag without an opening one. A
    tag in code, indented below an item of a list, or in the middle of a sentence, is text under review. So is
    one without an opening tag below a ``revise`` or its findings: text under review can have such a tag, and
    must not take them back.
    """
    at = 0
    for _ in range(_MOST_BLOCKS):
        opened = _OPEN.match(text, at)
        if opened is None:
            end = max(_find_ends(text, at, _ANY_CLOSE), default=at)
            if end == at or _SAID.search(text, at, end):
                break
            at = end
            continue
        closing = _CLOSE[(opened.lastindex or 1) - 1]
        # Thoughts are untidy: if every closing tag is in code, the first one counts.
        first = closing.search(text, opened.end())
        if first is None:
            return Split(text[at:], "", finished=False)
        at = next(_find_ends(text, opened.end(), closing), first.end())
    return Split(text[:at], text[at:].lstrip() if at else text)


def _find_ends(text: str, start: int, closing: re.Pattern[str]) -> Iterator[int]:
    """The ends of the closing tags that are not in code, nor within a sentence."""
    if closing.search(text, start) is None:
        return
    fence = ""
    in_item = False
    for part in _LINE.finditer(text, start):
        line_start, line = part.start(), part[0].removesuffix("\r")
        in_item = _ITEM.match(line) is not None or (in_item and _BELOW_ITEM.match(line) is not None)
        match = _FENCE.fullmatch(line)
        if match and not fence and not ("`" in match[2] and match[1][0] == "`"):
            fence = match[1]
        elif match and fence and match[1].startswith(fence) and not match[2].strip():
            fence = ""
        elif not fence and not (in_item and _BELOW_ITEM.match(line)) and len(line) <= _LONGEST_LINE:
            code = [found.span() for found in _CODE.finditer(line)]
            for tag in closing.finditer(line):
                in_code = any(first <= tag.start() < last for first, last in code)
                before, after = line[: tag.start()], line[tag.end() :]
                in_sentence = (
                    before[-1:].isspace() and before.strip() and after[:1].isspace() and after.strip()
                )
                if not in_code and not in_sentence:
                    yield line_start + tag.end()


class Filter:
    """Removes the thinking from a text that is still arriving.

    A closing tag without an opening one comes too late: the text before it has been shown.
    """

    def __init__(self) -> None:
        self.thinking = False
        self._thought = False
        self._held = ""
        self._answering = False
        self._closing = _ANY_CLOSE

    def feed(self, text: str) -> str:
        """The part of the answer that is known now and was not returned before."""
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
        return self.close() if self._is_text() else ""

    def close(self) -> str:
        """The text that was held back; also called once it is clear that no tag follows."""
        rest = "" if self.thinking else self._held
        self._held, self._answering = "", True
        return rest.lstrip() if self._thought else rest

    def _is_text(self) -> bool:
        """Whether the held text cannot be the beginning of an opening tag."""
        start = self._held.lstrip().casefold()
        if len(start) > LONGEST_TAG or start[:1] not in ("", "<", "[", "◁"):
            return True
        if start.startswith("<|"):
            return "\n" in start
        if start.startswith("<"):
            return ">" in start or "\n" in start
        return not any(tag.startswith(start) for tag in ("[think]", "◁think▷"))
