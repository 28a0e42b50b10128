"""What people write: the workflow file, presets, the file of replies, and keys in ``.env``."""

WORKFLOW_FILE = ".aethr.yaml"
