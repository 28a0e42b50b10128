"""The command line against a model server, as in the tests of live runs."""

from tests.live import aethr, project, temp

__all__ = ["aethr", "project", "temp"]
