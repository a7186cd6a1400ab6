"""Keys: sealing, files, curves."""

import pytest

from accord_common.errors import FormatError, VerificationError
from accord_common.identity import FlowerKey, SigningKey, flower_public_key, verify


def test_rfc_8032_test_3_verifies_and_a_changed_bit_does_not() -> None:
    public = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    signature = bytes.fromhex(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    verify(public, signature, b"\xaf\x82")
    for bad in (
        (public, signature, b"\xaf\x83"),
        (public, bytes(64), b"\xaf\x82"),
        ("00" * 32, signature, b"\xaf\x82"),
        ("zz", signature, b"\xaf\x82"),
    ):
        with pytest.raises(VerificationError) as caught:
            verify(*bad)
        assert caught.value.code == "bad-signature"


def test_a_flower_key_comes_back_from_file_and_from_its_compressed_point() -> None:
    key = FlowerKey.generate()
    assert FlowerKey.from_pem(key.to_pem()).public == key.public
    assert flower_public_key(key.public) == key.private.public_key()
    with pytest.raises(FormatError) as caught:
        flower_public_key("02" + "ff" * 48)
    assert caught.value.code == "not-p384"


def test_key_kinds_are_not_mixed_up() -> None:
    with pytest.raises(FormatError):
        SigningKey.from_pem(FlowerKey.generate().to_pem())
    with pytest.raises(FormatError):
        FlowerKey.from_pem(SigningKey.generate().to_pem())
