"""The least that streams an answer: ``bare_lane.py anthropic|google BASE_URL PROMPT_FILE``."""

import json
import sys

import httpx

lane, base, prompt = sys.argv[1:]
with open(prompt, encoding="utf-8") as file:  # noqa: PTH123 - as small as it can be
    content = file.read()
if lane == "anthropic":
    url, headers = f"{base}/v1/messages", {"x-api-key": "sk-bench", "anthropic-version": "2023-06-01"}
    messages = [{"role": "user", "content": content}]
    body = {"model": "m", "messages": messages, "max_tokens": 16384, "stream": True}
else:
    url, headers = (
        f"{base}/v1beta/models/m:streamGenerateContent?alt=sse",
        {"x-goog-api-key": "sk-bench"},
    )
    body = {"contents": [{"role": "user", "parts": [{"text": content}]}]}
with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
    for line in answer.iter_lines():
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            parts = (
                [event.get("delta", {})]
                if lane == "anthropic"
                else event["candidates"][0]["content"]["parts"]
            )
            sys.stdout.write("".join(part.get("text") or "" for part in parts))
            sys.stdout.flush()
