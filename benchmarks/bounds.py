"""The most of everything that is counted. A smaller count is progress: lower its bound with it.

The counts of modules have some slack, as each version of Python loads a few more or fewer.
"""

from __future__ import annotations

BOUNDS: dict[str, float] = {}
