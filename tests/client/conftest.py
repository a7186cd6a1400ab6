"""What tests of nodes share."""

from hashlib import sha256

import pytest


@pytest.fixture
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases stretched by one hash: what tests seal guards nothing, and scrypt takes time."""
    for module in ("accord_common.sealed_key", "accord_client.sealed_stream"):
        monkeypatch.setattr(
            f"{module}.stretch",
            lambda passphrase, salt: sha256(salt + passphrase.encode()).digest(),
        )
