"""LiteLLM as its documentation calls it: ``bare_litellm.py BASE_URL MODEL PROMPT_FILE``."""

import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it would wait for a download that cannot be
import litellm

base, model, prompt = sys.argv[1:]
with open(prompt, encoding="utf-8") as file:  # noqa: PTH123 - as small as it can be
    content = file.read()
answer = litellm.completion(
    model=f"openai/{model}",
    messages=[{"role": "user", "content": content}],
    api_base=base,
    api_key="sk-bench",
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in answer:
    for choice in chunk.choices:
        sys.stdout.write(choice.delta.content or "")
        sys.stdout.flush()
