"""The second factor: TOTP (RFC 6238), and recovery codes for who lost the device.

Guarantees: secrets are sealed (AES-256-GCM, bound to the person) by a key derived from the log's,
which no database and no backup holds; a step that signed in never does again, nor one before it
(RFC 6238, 5.2); one step of 30 s on either side is taken, for clocks.
"""

import base64
import hashlib
import hmac
import os
import secrets
from datetime import datetime
from urllib.parse import quote, urlencode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from accord_common.errors import VerificationError
from accord_common.identity import SigningKey

STEP_S = 30
DIGITS = 6
RECOVERY_CODES = 10
_SECRET_BYTES = 20  # RFC 4226, section 4, R6; SHA-1 is what every app knows
_NONCE_BYTES = 12
_ISSUER = "Accord"


def new_secret() -> bytes:
    """Return a fresh secret."""
    return os.urandom(_SECRET_BYTES)


def seal(secret: bytes, person: str, log_key: SigningKey) -> bytes:
    """Encrypt a secret for the database."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(log_key).encrypt(nonce, secret, person.encode())


def unseal(sealed: bytes, person: str, log_key: SigningKey) -> bytes:
    """Decrypt a secret.

    Raises:
        VerificationError: `sealed-elsewhere`: by another registry, or for another person.
    """
    nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return _cipher(log_key).decrypt(nonce, text, person.encode())
    except InvalidTag as error:
        raise VerificationError(
            "sealed-elsewhere",
            "this second factor was set up with another log key",
            hint="Have it taken away: accord people reset --second-factor.",
        ) from error


def accepted_step(secret: bytes, code: str, last: int, moment: datetime) -> int | None:
    """Return the step whose code this is, if it is later than `last` and about now."""
    totp = TOTP(secret, DIGITS, SHA1(), STEP_S)
    step = int(moment.timestamp()) // STEP_S
    typed = code.replace(" ", "").encode()
    found = None
    for near in (step - 1, step, step + 1):  # all three, whichever it is
        same = hmac.compare_digest(totp.generate(near * STEP_S), typed)
        if same and near > last:
            found = near
    return found


def address(secret: bytes, login: str, registry: str) -> str:
    """The otpauth address that an app's QR code holds."""
    label = quote(f"{_ISSUER} {registry}:{login}")
    query = {"secret": base32(secret), "issuer": f"{_ISSUER} {registry}", "digits": DIGITS}
    return f"otpauth://totp/{label}?{urlencode(query, quote_via=quote)}"


def base32(secret: bytes) -> str:
    """The secret as people type it."""
    return base64.b32encode(secret).decode()


def recovery_codes() -> list[str]:
    """Make codes of 80 bits, in four groups."""
    made = (
        base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(RECOVERY_CODES)
    )
    return ["-".join(code[i : i + 4] for i in range(0, 16, 4)) for code in made]


def recovery_digest(person: str, code: str) -> str:
    """What is kept of a recovery code, however it was typed."""
    plain = code.replace("-", "").replace(" ", "").lower()
    return hashlib.sha256(f"{person}:{plain}".encode()).hexdigest()


def _cipher(log_key: SigningKey) -> AESGCM:
    return AESGCM(log_key.derive(b"accord second factor"))
