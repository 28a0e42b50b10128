"""The least that makes several calls at once: ``bare_calls.py BASE_URL MODEL PROMPT_FILE CALLS JOBS``."""

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx

base, model, prompt, calls, jobs = sys.argv[1:]
with open(prompt, encoding="utf-8") as file:  # noqa: PTH123 - as small as it can be
    content = file.read()
body = {"model": model, "messages": [{"role": "user", "content": content}], "stream": True}
client = httpx.Client(headers={"Authorization": "Bearer sk-bench"}, timeout=60)


def call(_: int) -> int:
    return len(client.post(f"{base}/chat/completions", json=body).content)


with ThreadPoolExecutor(int(jobs)) as pool:
    print(sum(pool.map(call, range(int(calls)))))
