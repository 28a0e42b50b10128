"""What `aethr eval` does: the project's own workflow over cases with known defects, and how well it did."""
