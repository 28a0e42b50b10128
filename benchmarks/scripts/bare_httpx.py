"""The least that streams an answer: ``bare_httpx.py BASE_URL MODEL PROMPT_FILE``."""

import json
import sys

import httpx

base, model, prompt = sys.argv[1:]
with open(prompt, encoding="utf-8") as file:  # noqa: PTH123 - as small as it can be
    content = file.read()
body = {
    "model": model,
    "messages": [{"role": "user", "content": content}],
    "stream": True,
    "stream_options": {"include_usage": True},
}
headers = {"Authorization": "Bearer sk-bench"}
with httpx.stream("POST", f"{base}/chat/completions", json=body, headers=headers, timeout=60) as answer:
    for line in answer.iter_lines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                sys.stdout.write(choice["delta"].get("content") or "")
                sys.stdout.flush()
