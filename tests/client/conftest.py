"""What tests of nodes share: a ledger with its key and place, and passphrases that cost nothing."""

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


@pytest.fixture(scope="module", autouse=True)
def _cheap(cheap_passphrases: None) -> None:
    """Nearly every file here makes institutions, whose keys are sealed."""
