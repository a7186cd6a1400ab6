"""An institution's key opens with its passphrase, and with nothing else."""

import json

import pytest

from accord_common.canonical import canonical_bytes
from accord_common.errors import AccordError, FormatError, UsageError
from accord_common.identity import SigningKey
from accord_common.sealed_key import seal, unseal

PASSPHRASE = "correct horse b\u00e4ttery"


def test_a_sealed_key_opens_with_its_passphrase_only() -> None:
    key = SigningKey.generate()
    data = seal(key, PASSPHRASE)
    assert unseal(data, PASSPHRASE).public == key.public
    assert unseal(data, "correct horse ba\u0308ttery").public == key.public  # typed decomposed
    for wrong in ("correct horse battery", ""):
        with pytest.raises(UsageError) as caught:
            unseal(data, wrong)
        assert caught.value.code == "wrong-passphrase"


def test_the_file_gives_away_the_public_key_only_and_differs_each_time() -> None:
    key = SigningKey.generate()
    one, two = seal(key, PASSPHRASE), seal(key, PASSPHRASE)
    assert key.private_bytes() not in one
    assert key.private_bytes().hex().encode() not in one
    assert json.loads(one)["sealed"] != json.loads(two)["sealed"]
    assert json.loads(one)["header"]["public"] == key.public


@pytest.mark.parametrize("field", ["public", "salt", "nonce"])
def test_a_changed_header_does_not_open(field: str) -> None:
    body = json.loads(seal(SigningKey.generate(), PASSPHRASE))
    value = body["header"][field]
    body["header"][field] = ("0" if value[0] != "0" else "1") + value[1:]
    with pytest.raises(UsageError) as caught:
        unseal(canonical_bytes(body), PASSPHRASE)
    assert caught.value.code == "wrong-passphrase"


@pytest.mark.parametrize("change", [{"log2_n": 40}, {"r": 1 << 30}, {"format": "other"}])
def test_a_file_cannot_ask_for_other_work(change: dict[str, object]) -> None:
    body = json.loads(seal(SigningKey.generate(), PASSPHRASE))
    body["header"].update(change)
    with pytest.raises(AccordError) as caught:
        unseal(canonical_bytes(body), PASSPHRASE)
    assert caught.value.code == "bad-record"


def test_what_is_no_key_file_is_refused() -> None:
    for data in (b"", b"{}", SigningKey.generate().to_pem()):
        with pytest.raises(FormatError):
            unseal(data, PASSPHRASE)


def test_a_short_passphrase_is_refused_with_its_bound() -> None:
    with pytest.raises(UsageError, match="11 characters, 12"):
        seal(SigningKey.generate(), "eleven char")
