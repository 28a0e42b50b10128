"""Cut what the Action asks for out of GitHub's own GraphQL schema.

    npm pack @octokit/graphql-schema@15.26.1 && tar -xzf octokit-graphql-schema-15.26.1.tgz
    python tests/github/data/cut_graphql.py package/schema.json >github_graphql.json

The result has the fields of each type, each with its type and the types of its arguments, as GraphQL writes
them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

USED = {
    "Query": ("repository", "viewer"),
    "User": ("login",),
    "Repository": ("pullRequest",),
    "PullRequest": ("reviewThreads",),
    "PullRequestReviewThreadConnection": ("nodes", "pageInfo"),
    "PageInfo": ("endCursor", "hasNextPage"),
    "PullRequestReviewThread": ("comments", "id", "isResolved", "viewerCanResolve"),
    "PullRequestReviewCommentConnection": ("nodes",),
    "PullRequestReviewComment": ("fullDatabaseId",),
    "Mutation": ("resolveReviewThread",),
    "ResolveReviewThreadPayload": ("thread",),
}


def cut(document: dict[str, Any]) -> dict[str, Any]:
    types = {each["name"]: each for each in document["__schema"]["types"]}
    return {
        name: {
            field["name"]: {
                "type": written(field["type"]),
                "args": {each["name"]: written(each["type"]) for each in field["args"]},
            }
            for field in types[name]["fields"]
            if field["name"] in fields
        }
        for name, fields in USED.items()
    }


def written(given: dict[str, Any]) -> str:
    if given["kind"] == "NON_NULL":
        return f"{written(given['ofType'])}!"
    return f"[{written(given['ofType'])}]" if given["kind"] == "LIST" else given["name"]


if __name__ == "__main__":
    source = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps(cut(source), indent=1, sort_keys=True) + "\n")
