"""Who may come in: one link at a time, one session at a time, in memory only.

Guarantees: a link's code is 256 random bits, lets in once, within `LINK_S`, and is void as soon as
another is made; only hashes of codes and cookies are kept, and nothing outlives the process; a
session ends `IDLE_S` after the person's last step, `LONGEST_S` after it began, or where somebody
comes in by a newer link. Pure: the caller brings the time.

Not covered: which machine and person asks (`guard`).
"""

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from accord_common.errors import AuthError

LINK_S = 600.0
IDLE_S = 900.0
LONGEST_S = 8 * 3600.0  # a working day
_BYTES = 32
_AGAIN = "Press Enter where accord-node steward runs, and open the new link."


@dataclass(slots=True)
class Session:
    """Somebody who came in; `csrf` goes into the page and comes back with whatever changes things.

    Attributes:
        began, stepped: seconds of the door's clock.
    """

    key: bytes
    csrf: str
    began: float
    stepped: float


class Door:
    """See the module. Any thread may call.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._link: tuple[bytes, float] | None = None
        self._session: Session | None = None

    def link(self) -> str:
        """Make a code; the one before it is void."""
        code = secrets.token_urlsafe(_BYTES)
        with self._lock:
            self._link = _hashed(code), self._clock() + LINK_S
        return code

    def enter(self, code: str) -> str:
        """Use a code up and begin a session, the only one; returns its cookie.

        Raises:
            AuthError: `link-void` for a code that is wrong, was used or replaced, or is too old.
        """
        with self._lock:
            link = self._link
            if link is None or not hmac.compare_digest(link[0], _hashed(code)):
                raise _void()
            self._link = None
            now = self._clock()
            if now > link[1]:
                raise _void()
            cookie = secrets.token_urlsafe(_BYTES)
            self._session = Session(_hashed(cookie), secrets.token_urlsafe(_BYTES), now, now)
            return cookie

    def session(self, cookie: str | None, *, step: bool) -> Session:
        """The session of a cookie.

        Args:
            cookie: what the browser sent.
            step: whether a person did this; a page that asks for itself again keeps nothing open.

        Raises:
            AuthError: `signed-out`.
        """
        with self._lock:
            session, now = self._session, self._clock()
            if session is not None:
                idle, age = now - session.stepped, now - session.began
                if idle > IDLE_S or age >= LONGEST_S:
                    session = self._session = None
            if session is None or not hmac.compare_digest(session.key, _hashed(cookie or "")):
                raise AuthError("signed-out", "nobody is signed in here", hint=_AGAIN)
            if step:
                session.stepped = now
            return session

    def leave(self) -> None:
        """End the session."""
        with self._lock:
            self._session = None


def _hashed(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _void() -> AuthError:
    return AuthError(
        "link-void",
        f"this link was used or replaced, or is older than {LINK_S / 60:.0f} minutes",
        hint=_AGAIN,
    )
