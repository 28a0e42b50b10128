"""The sessions of everybody who is logged in, shared by the threads of the server."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

LIFETIME_S = 12 * 3600
"""A session ends so many seconds after it was used last."""


@dataclass
class Session:
    """``used`` is in seconds, by the clock of its registry."""

    token: str
    user: str
    used: float


class Registry:
    """All methods without an underscore may be called by any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def open(self, user: str) -> str:
        """Begin a session; its token."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[token] = Session(token, user, self._clock())
        return token

    def user_of(self, token: str) -> str | None:
        """Whose session this is; None if it has ended."""
        with self._lock:
            session = self._sessions.get(token)
            now = self._clock()
            if session is None or now - session.used > LIFETIME_S:
                self._sessions.pop(token, None)
                return None
            session.used = now
            return session.user

    def close(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(token, None)
