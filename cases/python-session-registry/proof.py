"""However many threads open sessions, each of them works, and everything that changes them holds the lock."""

import sys
import threading

sys.path.insert(0, sys.argv[1])

from sessions import registry as module


class Guarded(dict):
    """A dict that may be changed only while the lock is held."""

    lock = None

    def __setitem__(self, key, value):
        assert self.lock.locked(), "a session is added without the lock"
        super().__setitem__(key, value)

    def __delitem__(self, key):
        assert self.lock.locked(), "a session is removed without the lock"
        super().__delitem__(key)

    def values(self):
        assert self.lock.locked(), "sessions are read without the lock"
        return super().values()


now = 0.0
registry = module.Registry(lambda: now)
registry._sessions = Guarded()
registry._sessions.lock = registry._lock

most = getattr(module, "MOST", None)
tokens = []
for _ in range(8):
    now += 1
    tokens.append(registry.open("ann"))
other = registry.open("bob")
alive = [token for token in tokens if registry.user_of(token) == "ann"]
assert alive == (tokens if most is None else tokens[-most:]), len(alive)
assert registry.user_of(other) == "bob"

barrier = threading.Barrier(8)


def log_in():
    barrier.wait()
    registry.open("eve")


threads = [threading.Thread(target=log_in) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with registry._lock:
    kept = sum(session.user == "eve" for session in registry._sessions.values())
assert kept == (8 if most is None else most), kept
