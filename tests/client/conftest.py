"""What tests of nodes share: a ledger with its key and place, and passphrases that cost nothing."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from accord_client.ledger import Ledger
from accord_common.identity import SigningKey


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path, key: SigningKey) -> Iterator[Ledger]:
    opened = Ledger.create(path, key)
    yield opened
    opened.close()


@pytest.fixture
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases stretched by one hash: what tests seal guards nothing, and scrypt takes time."""
    for module in ("accord_common.sealed_key", "accord_client.sealed_stream"):
        monkeypatch.setattr(
            f"{module}.stretch",
            lambda passphrase, salt: sha256(salt + passphrase.encode()).digest(),
        )
