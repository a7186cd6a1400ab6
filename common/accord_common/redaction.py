"""What no log line may hold: secrets, told by their field's name or by their shape.

Guarantees: as the last step before a line is written, nothing under a secret's name and nothing of
a secret's shape is left in it, at any depth, in the message, in a traceback, or in what a library
logs. Codes of errors, ids, hashes and public keys stay: a log without them helps nobody.

By name: token, password, passphrase, secret, credential, cookie, authorization, invitation, pem,
share, seed, mask; `key` and `..._key`, but for the public ones. By shape: `Bearer`, `Basic` and
what follows; invitation texts; the registry's tokens and codes; PEM private keys, whole or cut off;
the password in an address; `password=`, `"token": ` and the like in running text.

Not covered: a secret that has neither, such as a passphrase in the middle of a sentence.
"""

import re
from collections.abc import Mapping
from typing import Any

from structlog.typing import EventDict

GONE = "[redacted]"

_PASS = r"pass(?:word|wd|phrase|code)s?|pwd"
_SECRET = r"(?:tokens?|secrets?|credentials?|cookies?|authorization|invitations?|pem)"
_PART = re.compile(rf"{_PASS}|{_SECRET}|shares?|seeds?|masks?")
_PARTS = re.compile(r"[_.\s-]+|(?<=[a-z0-9])(?=[A-Z])")
# The keys that records and answers show to everybody (SPEC.md).
_PUBLIC_KEYS = frozenset({"identity_key", "node_key", "flower_key", "log_key", "public_key"})
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")  # what an error's code is; an invitation's is not
_QUOTED = r"b?\\*'[^']*'|b?\\*\"[^\"]*\""
_WORD = r"[^\s,;&'\"(){}\[\]\\]"

_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # To the end of the text where the block is cut off; `\\n` is how a repr writes a line's end.
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        GONE,
    ),
    (re.compile(r"accord-invite:[A-Za-z0-9_=-]+"), f"accord-invite:{GONE}"),
    (re.compile(r"\baccord_[A-Za-z0-9_-]{20,}"), f"accord_{GONE}"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\1 {GONE}"),
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@'\"]*):[^\s/'\"]+@"), rf"\1:{GONE}@"),
    # A name and what is assigned to it: in an address's query, libpq's words, JSON, a dict's repr.
    # In prose a colon follows such a word too: there, only what is long is taken for a secret.
    (
        re.compile(
            rf"(?i)((?:\b|_)(?:{_PASS}|{_SECRET}|(?:private|api|signing|secret)[_-]?key)\\*['\"]?)"
            rf"(\s*=\s*(?:{_QUOTED}|{_WORD}+)|\s*:\s*(?:{_QUOTED}|{_WORD}{{16,}}))"
        ),
        rf"\g<1>={GONE}",
    ),
    (re.compile(rf"(?i)(\b(?:{_PASS})\s*:\s*){_WORD}+"), rf"\g<1>{GONE}"),
    # 256 random bits in base64url (`secrets.token_urlsafe`): 43 characters; no hash, no id is.
    (
        re.compile(
            r"(?<![A-Za-z0-9_/+=-])(?=[A-Za-z0-9_-]*[A-Z])(?=[A-Za-z0-9_-]*[a-z])"
            r"(?=[A-Za-z0-9_-]*[0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_/+=-])"
        ),
        GONE,
    ),
)


def redact(_: object, __: str, event: EventDict) -> EventDict:
    """The processor of structlog's: stands last, before what renders; tracebacks are text by then.

    Of the keys that begin with `_`, which are structlog's own, nothing is looked at.
    """
    return {
        key: value if key.startswith("_") else _field(key, value) for key, value in event.items()
    }


def redact_text(text: str) -> str:
    """Take what has a secret's shape out of a text."""
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def _field(key: str, value: object) -> Any:
    if value is None or isinstance(value, bool) or value == "":
        return value
    if _secret(key):
        return GONE
    if key == "code" and not isinstance(value, int):
        return value if isinstance(value, str) and _SLUG.fullmatch(value) else GONE
    return _value(value)


def _secret(key: str) -> bool:
    parts = [part.lower() for part in _PARTS.split(key)]
    if any(_PART.fullmatch(part) for part in parts):
        return True
    return parts[-1] in ("key", "keys") and key.lower() not in _PUBLIC_KEYS


def _value(value: object) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return redact_text(value)
        case Mapping():
            return {redact_text(str(key)): _field(str(key), item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_value(item) for item in value]
        case bytes() | bytearray() | memoryview():
            return f"{len(value)} bytes"
        case _:
            return redact_text(repr(value))
