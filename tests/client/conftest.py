"""Fixtures for tests of the ledger: a key, a place, and an empty ledger there."""

from collections.abc import Iterator
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
