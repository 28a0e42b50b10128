"""An event is as old as it is, whatever time zone the server is in."""

import os
import sys
import time

sys.path.insert(0, sys.argv[1])

from monitor.events import late, parse

LINE = '{"device": "d1", "kind": "door", "at": "2026-03-01T12:00:00Z"}'
NOW = 1772366400 + 60  # a minute after that
for zone in ("UTC0", "EAST-9", "WEST8"):
    os.environ["TZ"] = zone
    time.tzset()
    age = parse(LINE).age(NOW)
    if age != 60:
        sys.exit(f"with TZ={zone}, an event of a minute ago is {age:.0f} s old")
    assert not list(late([LINE], NOW))
