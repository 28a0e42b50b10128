"""The models that Aethr names: in presets, examples, pages, messages and the schema.

Each can be called by a fresh install, has a price, and is not about to be shut down; a test holds every
file to that. To name another one, or to replace one that retires, change this table first.
"""

from __future__ import annotations

EXAMPLE = "openai:gpt-5.4-mini"
"""In messages and in the schema; also what the presets review with."""

NAMED = (
    EXAMPLE,  # reads, reviews
    "openai:gpt-6-sol",  # writes
    "anthropic:claude-sonnet-5-5",  # a second provider
    "xai:grok-4.7",  # a third
    "ollama:qwen3:8b",  # a server of one's own
)

PRICES = ("1.110.2", "2026-11-20")
"""The newest LiteLLM whose price file this table was held against, and the day of its release.

Kept here because a package does not say when it was released. No model above may retire within 90 days of it.
"""

ANSWER_LIMIT = 32_000
"""The ``max_tokens`` of every preset: OpenAI advises at least 25,000 for what a model thinks and answers.

https://platform.openai.com/docs/guides/reasoning#allocating-space-for-reasoning
"""
