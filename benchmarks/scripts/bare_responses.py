"""The least that streams one of OpenAI's Responses: ``bare_responses.py BASE_URL MODEL PROMPT_FILE``."""

import json
import sys

import httpx

base, model, prompt = sys.argv[1:]
with open(prompt, encoding="utf-8") as file:  # noqa: PTH123 - as small as it can be
    content = file.read()
body = {"model": model, "input": content, "stream": True, "store": False}
headers = {"Authorization": "Bearer sk-bench"}
with httpx.stream("POST", f"{base}/responses", json=body, headers=headers, timeout=60) as answer:
    for line in answer.iter_lines():
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            if event["type"] == "response.output_text.delta":
                sys.stdout.write(event["delta"])
                sys.stdout.flush()
