"""``aethr schema``."""

from __future__ import annotations

import json
import sys

from aethr import config, workflow


def main() -> int:
    """Print the JSON Schema of the workflow file."""
    sys.stdout.write(json.dumps(config.json_schema(workflow.vocabulary()), indent=2) + "\n")
    return 0
