"""Nobody sees a title that they may not see, also right after somebody else has."""

import sys

sys.path.insert(0, sys.argv[1])

from library.listing import Document, Listing, User

DOCUMENTS = [
    Document("plans", "Picnic", frozenset({"staff", "board"})),
    Document("plans", "Merger", frozenset({"board"})),
]
ann, bob = User("ann", frozenset({"board"})), User("bob", frozenset({"staff"}))
listing = Listing(lambda folder: DOCUMENTS, lambda: 1000.0)
assert listing.titles(ann, "plans") == ["Merger", "Picnic"]
if (seen := listing.titles(bob, "plans")) != ["Picnic"]:
    sys.exit(f"bob is not on the board, and sees {seen}")
