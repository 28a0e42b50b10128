"""A pool of two connections is enough for any number of feeds, whatever the servers answer."""

import sys

sys.path.insert(0, sys.argv[1])

from feeds.refresh import Answer, Pool, refresh_all


def fetch(url, etag):
    return Answer(304, etag, ()) if etag else Answer(200, f"etag of {url}", (f"an entry of {url}",))


urls = [f"https://example.com/{number}" for number in range(5)]
pool = Pool(2)
assert refresh_all(pool, urls, fetch) == dict.fromkeys(urls, 1)
try:
    again = refresh_all(pool, urls, fetch)
except RuntimeError as error:
    sys.exit(f"the second round fails: {error}")
if pool.used or any(again.values()):
    sys.exit(f"{pool.used} connections are still in use, new entries: {again}")
