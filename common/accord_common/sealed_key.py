"""An institution's key at rest: sealed by a passphrase, in a file of its own form.

Guarantees: without the passphrase the file gives away the public key and nothing else; each guess
costs one scrypt (RFC 7914) with 64 MiB of memory; a changed byte does not open (AES-256-GCM, the
header is its additional data).

Edge cases: a passphrase is at least 12 characters; its Unicode form is NFKC, so that it opens from
any keyboard. Not PKCS#8: OpenSSL seals that with 2,048 rounds of PBKDF2, which a graphics card
tries millions of times a second.
"""

import os
import unicodedata
from typing import Annotated, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import StringConstraints

from accord_common.errors import FormatError, UsageError
from accord_common.fields import PublicKey, Record
from accord_common.identity import SigningKey

MIN_PASSPHRASE = 12  # characters; a typed secret that seals an institution's identity
_LOG2_N: Final = 16  # with r = 8, p = 2: OWASP's password storage table, 2024: 64 MiB, about 0.3 s
_R: Final = 8
_P: Final = 2
SALT_BYTES, _NONCE_BYTES, _KEY_BYTES, _TAG_BYTES = 16, 12, 32, 16
_MAX_BYTES = 4096


class _Header(Record):
    """What stands in clear; the numbers are checked, so that a file cannot ask for 1 TiB."""

    format: Literal["accord-sealed-key-v1"]
    public: PublicKey
    log2_n: Literal[16]
    r: Literal[8]
    p: Literal[2]
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    nonce: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{24}$")]


class _File(Record):
    header: _Header
    sealed: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{96}$")]


def seal(key: SigningKey, passphrase: str) -> bytes:
    """Return the file for a key.

    Raises:
        UsageError: `short-passphrase` under 12 characters.
    """
    check_passphrase(passphrase)
    header = _Header(
        format="accord-sealed-key-v1",
        public=key.public,
        log2_n=_LOG2_N,
        r=_R,
        p=_P,
        salt=os.urandom(SALT_BYTES).hex(),
        nonce=os.urandom(_NONCE_BYTES).hex(),
    )
    sealed = _cipher(header, passphrase).encrypt(
        bytes.fromhex(header.nonce), key.private_bytes(), header.to_bytes()
    )
    return _File(header=header, sealed=sealed.hex()).to_bytes()


def unseal(data: bytes, passphrase: str) -> SigningKey:
    """Open a key file.

    Raises:
        FormatError: the bytes are no such file.
        UsageError: `wrong-passphrase`, or the file was changed.
    """
    file = _File.from_bytes(data, max_bytes=_MAX_BYTES)
    try:
        raw = _cipher(file.header, passphrase).decrypt(
            bytes.fromhex(file.header.nonce), bytes.fromhex(file.sealed), file.header.to_bytes()
        )
    except InvalidTag as error:
        raise UsageError(
            "wrong-passphrase",
            "the key does not open with this passphrase, or the file is damaged",
            hint="Check the passphrase; a lost one means a new key and a new agreement version.",
        ) from error
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(raw))
    if key.public != file.header.public:
        raise FormatError("bad-record", "the sealed key is not the one that its header names")
    return key


def check_passphrase(passphrase: str) -> None:
    """Refuse one that is too short to seal anything: UsageError `short-passphrase`."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise UsageError(
            "short-passphrase",
            f"the passphrase has {len(passphrase)} characters, {MIN_PASSPHRASE} is the least",
        )


def stretch(passphrase: str, salt: bytes) -> bytes:
    """Derive a 32-byte key from a passphrase, at the cost that the module names."""
    secret = unicodedata.normalize("NFKC", passphrase).encode()
    return Scrypt(salt, _KEY_BYTES, 2**_LOG2_N, _R, _P).derive(secret)


def _cipher(header: _Header, passphrase: str) -> AESGCM:
    return AESGCM(stretch(passphrase, bytes.fromhex(header.salt)))
