"""Aethr runs explicit, reproducible AI coding workflows from one YAML file."""

__version__ = "1.0.0"
