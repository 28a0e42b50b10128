"""The hook: which change a stage is about, which workflows it refuses, and what it reports."""
