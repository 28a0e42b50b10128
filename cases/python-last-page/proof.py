"""Every item is on some page: ``python proof.py base`` or ``head``."""

import sys

sys.path.insert(0, sys.argv[1])

from app.pages import page_of, walk

for count in (0, 1, 24, 25, 26, 30, 50, 51):
    items = list(range(count))
    seen = list(walk(items))
    if seen != items:
        sys.exit(f"of {count} items, a client that follows `next` sees {len(seen)}")
assert list(page_of(list(range(30)), 2).items) == [25, 26, 27, 28, 29]
