"""Slowing down who guesses, without shutting out whom they guess at.

Guarantees: every try counts before it is judged, so trying many at once gains nothing. After some
failures each one doubles the wait, up to `LONGEST`; a day without any forgets them. Three things
are counted apart: the account as strangers try it, the address, and each device that has signed in
to the account before (OWASP's device cookies). Whoever has such a device is not kept out by what
strangers do; neither is who signs in through a provider, nor who uses a one-time code
(`accord people reset`).
"""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import LimitError
from accord_common.identity import SigningKey
from accord_server.registry.access.rates import network_of
from accord_server.registry.access.tables import AttemptRow, PersonRow

LONGEST = timedelta(minutes=15)
FORGOTTEN = timedelta(days=1)
_FREE_OF_ACCOUNT = 5
_FREE_OF_ADDRESS = 50  # a hospital's people share one


def keys_of(login: str, person: PersonRow | None, address: str, device: str | None) -> list[str]:
    """What a try is counted for; `device` is the proof of one that was here before."""
    if person is not None and device is not None:
        return [_key("device", person.id, device)]
    return [_key("account", login), _key("address", network_of(address))]


async def charge(session: AsyncSession, keys: list[str], moment: datetime) -> bool:
    """Count a try; returns whether it is the one after which there is a wait.

    Raises:
        LimitError: `locked`; the try is not counted.
    """
    await session.execute(delete(AttemptRow).where(AttemptRow.last < moment - FORGOTTEN))
    rows = [await session.get(AttemptRow, key) for key in keys]
    until = max((row.until for row in rows if row is not None), default=moment)
    if until > moment:
        wait_s = max(1, round((until - moment).total_seconds()))
        raise LimitError(
            "locked",
            f"too many failures to sign in; nothing is tried for {wait_s} s",
            hint="Wait, sign in where you have before, or ask an owner: accord people reset.",
            retry_s=wait_s,
        )
    begins = False
    for key, row in zip(keys, rows, strict=True):
        if row is None:
            row = AttemptRow(key=key, failures=0, last=moment, until=moment)
            session.add(row)
        row.failures, row.last = row.failures + 1, moment
        free = _FREE_OF_ADDRESS if key.startswith("address") else _FREE_OF_ACCOUNT
        if row.failures >= free:
            wait = timedelta(seconds=2 ** min(row.failures - free, 10))
            row.until = moment + min(LONGEST, wait)
            begins = begins or row.failures == free
    return begins


async def forgive(session: AsyncSession, keys: list[str]) -> None:
    """Take a try back that was none; the address keeps what others have done."""
    for key in keys:
        row = await session.get(AttemptRow, key)
        if row is None:
            continue
        row.failures = max(0, row.failures - 1)
        row.until = row.last


async def forget(session: AsyncSession, keys: list[str]) -> None:
    """Forget an account's failures, after one that signed in."""
    await forgive(session, [key for key in keys if key.startswith("address")])
    own = [key for key in keys if not key.startswith("address")]
    await session.execute(delete(AttemptRow).where(AttemptRow.key.in_(own)))


def new_device(person: PersonRow, log_key: SigningKey) -> str:
    """Make the cookie of a device that has signed in; a new password makes it a stranger's."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_proof(nonce, person, log_key)}"


def known_device(cookie: str | None, person: PersonRow | None, log_key: SigningKey) -> str | None:
    """Return the cookie if it is of a device that has signed in as this person."""
    if cookie is None or person is None:
        return None
    nonce, _, proof = cookie.partition(".")
    right = hmac.compare_digest(_proof(nonce, person, log_key).encode(), proof.encode())
    return cookie if right else None


def _proof(nonce: str, person: PersonRow, log_key: SigningKey) -> str:
    words = f"{nonce}|{person.id}|{person.password_changed.timestamp()}"
    return hmac.new(log_key.derive(b"accord device"), words.encode(), "sha256").hexdigest()


def _key(kind: str, *parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{kind}:{digest}"[:64]
