"""Cut the endpoints that Aethr uses out of GitHub's own OpenAPI description, as plain JSON Schema.

    npm pack @octokit/openapi@23.0.2 && tar -xzf octokit-openapi-23.0.2.tgz
    python tests/github/data/cut_openapi.py package/generated/api.github.com.json >github_api.json

Examples and descriptions are left out, ``nullable`` becomes a type, and what the description does not have is
added: the limits of a comment's text and of a status, a deleted fork, that a review which is posted at once
needs a text, and that the line of an outdated comment is null.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LIST, ONE = (
    "/repos/{owner}/{repo}/issues/{issue_number}/comments",
    "/repos/{owner}/{repo}/issues/comments/{comment_id}",
)
ARTIFACTS, ARTIFACT = (
    "/repos/{owner}/{repo}/actions/runs/{run_id}/artifacts",
    "/repos/{owner}/{repo}/actions/artifacts/{artifact_id}/{archive_format}",
)
REVIEWS, BESIDE, ONE_BESIDE = (
    "/repos/{owner}/{repo}/pulls/{pull_number}/reviews",
    "/repos/{owner}/{repo}/pulls/{pull_number}/comments",
    "/repos/{owner}/{repo}/pulls/comments/{comment_id}",
)
PULL, PERMISSION, STATUS, REACTIONS, ACTIVITY = (
    "/repos/{owner}/{repo}/pulls/{pull_number}",
    "/repos/{owner}/{repo}/collaborators/{username}/permission",
    "/repos/{owner}/{repo}/statuses/{sha}",
    "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions",
    "/repos/{owner}/{repo}/activity",
)
USED = {
    LIST: ("get", "post"),
    ONE: ("patch",),
    ARTIFACTS: ("get",),
    ARTIFACT: ("get",),
    REVIEWS: ("post",),
    BESIDE: ("get",),
    ONE_BESIDE: ("patch",),
    PULL: ("get",),
    PERMISSION: ("get",),
    STATUS: ("post",),
    REACTIONS: ("post",),
    ACTIVITY: ("get",),
}
LIMIT = 65_536
DROPPED = ("example", "examples", "description", "externalDocs", "x-github", "deprecated", "tags", "summary")


def cut(document: dict[str, Any]) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    paths = {
        path: {
            method: operation(document["paths"][path][method], document, definitions) for method in methods
        }
        for path, methods in USED.items()
    }
    for path, method in ((LIST, "post"), (ONE, "patch"), (REVIEWS, "post"), (ONE_BESIDE, "patch")):
        paths[path][method]["body"]["properties"]["body"]["maxLength"] = LIMIT
    review = paths[REVIEWS]["post"]["body"]
    review["required"] = ["event", "body", "commit_id"]
    review["additionalProperties"] = review["properties"]["comments"]["items"]["additionalProperties"] = False
    review["properties"]["body"]["minLength"] = 1
    review["properties"]["comments"]["items"]["properties"]["body"]["maxLength"] = LIMIT
    definitions["pull-request-review-comment"]["properties"]["line"]["type"] = ["integer", "null"]
    paths[STATUS]["post"]["body"]["properties"]["description"]["maxLength"] = 140
    head = definitions["pull-request"]["properties"]["head"]["properties"]
    head["repo"] = {"anyOf": [head["repo"], {"type": "null"}]}  # of a fork that was deleted
    return {"paths": paths, "definitions": definitions}


def operation(given: dict[str, Any], document: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    parameters = [resolved(each, document) for each in given["parameters"]]
    body = given.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return {
        "query": {
            each["name"]: plain(each["schema"], document, definitions)
            for each in parameters
            if each["in"] == "query"
        },
        "body": plain(body, document, definitions) if body else None,
        "answers": {
            status: plain(content["schema"], document, definitions)
            for status, answer in given["responses"].items()
            if (content := resolved(answer, document).get("content", {}).get("application/json"))
        },
    }


def resolved(value: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = document
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def plain(schema: Any, document: dict[str, Any], definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [plain(each, document, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = plain(resolved(schema, document), document, definitions)
        return {"$ref": f"#/definitions/{name}"}
    made = {
        key: {name: plain(each, document, definitions) for name, each in value.items()}
        if key == "properties"  # whose names are not keywords: a status has a description
        else plain(value, document, definitions)
        for key, value in schema.items()
        if key not in DROPPED and key != "nullable"
    }
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") and "type" not in made else made


if __name__ == "__main__":
    source = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps(cut(source), indent=1, sort_keys=True) + "\n")
