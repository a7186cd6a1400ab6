"""Passwords: which are taken, and how they are kept.

Guarantees: Argon2id with the second recommended parameters of RFC 9106, section 4 (64 MiB, 3
passes, 4 lanes); no more than two at once, so that sign-ins do not take the memory; somebody who is
not there costs as much as somebody who is. Rules after NIST SP 800-63B, 3.1.1: length, no
composition, nothing common, guessable from the account, or a pattern; no end by age.
"""

import asyncio
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from accord_common.api.access_schemas import MAX_PASSWORD, MIN_PASSWORD
from accord_common.errors import UsageError

_hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
_threads = ThreadPoolExecutor(2, "argon2")  # 64 MiB each

# Of the commonest that leaks hold, stripped of digits and signs: what people make long by adding.
_COMMON = frozenset(
    "password passwort passw0rd motdepasse contrasena letmein welcome willkommen iloveyou "
    "qwerty qwertyuiop qwertz azerty administrator admin superuser root changeme default secret "
    "football baseball basketball superman batman dragon monkey sunshine princess charlie shadow "
    "master michael jennifer computer internet starwars pokemon whatever trustno correcthorse "
    "correcthorsebatterystaple accord federated hospital registry clinic summer winter spring "
    "autumn january february december monday friday test testing guest login user hello".split()
)
_ROWS = ("01234567890", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiop")
_ROWS_BOTH = _ROWS + tuple(row[::-1] for row in _ROWS)
_FEWEST_OWN = 8  # characters that are neither the account's names nor a pattern


def check(password: str, *names: str) -> None:
    """Refuse a weak password; `names` are the account's. UsageError `weak-password` says why."""
    text = _plain(password)
    if not MIN_PASSWORD <= len(text) <= MAX_PASSWORD:
        raise _weak(f"it has {len(text)} characters; {MIN_PASSWORD} to {MAX_PASSWORD} are taken")
    low = text.casefold()
    if re.sub(r"[^a-z]", "", low) in _COMMON or re.sub(r"[\d\W_]+$", "", low) in _COMMON:
        raise _weak("it is among the commonest, with something added")
    rest = low
    for part in re.split(r"[\W_]+", " ".join(names).casefold()):
        if len(part) >= 3:
            rest = rest.replace(part, "")
    if len(rest) < _FEWEST_OWN:
        raise _weak("little of it is not the account's own name")
    if len(set(low)) < 5 or re.fullmatch(r"(.{1,6}?)\1+.{0,5}", low) or _runs(low):
        raise _weak("it repeats itself, or runs along the alphabet, digits or keyboard")


async def hashed(password: str) -> str:
    """Return what is kept of a password."""
    return await asyncio.get_running_loop().run_in_executor(
        _threads, _hasher.hash, _plain(password)
    )


async def verified(kept: str | None, password: str) -> bool:
    """Whether a password is the one that is kept; None, nobody's, takes as long and is False."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _verify, kept, password)


def outdated(kept: str) -> bool:
    """Whether a password was kept with other parameters than today's."""
    return _hasher.check_needs_rehash(kept)


def _verify(kept: str | None, password: str) -> bool:
    try:
        _hasher.verify(_NOBODY if kept is None else kept, _plain(password))
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None


def _plain(password: str) -> str:
    return unicodedata.normalize("NFKC", password)  # two keyboards, one character


def _runs(text: str) -> bool:
    """Whether most of a text is neighbours in a row of `_ROWS`."""
    pairs = [text[i : i + 2] for i in range(len(text) - 1)]
    return sum(any(pair in row for row in _ROWS_BOTH) for pair in pairs) * 4 > len(pairs) * 3


def _weak(why: str) -> UsageError:
    return UsageError(
        "weak-password",
        f"this password is not taken: {why}",
        hint="Four or more words that nobody else would put together do well; so does a manager's.",
    )


_NOBODY = _hasher.hash("nobody has this password")
