"""A sealed file opens with its passphrase, whole and unchanged, or not at all."""

import io

import pytest

from accord_client.sealed_stream import Opened, sealing
from accord_common.errors import AccordError
from accord_common.sealed_key import stretch

SECRET = "of the backup alone"
CHUNK = 64 << 10


def sealed(data: bytes, passphrase: str = SECRET) -> bytes:
    target = io.BytesIO()
    with sealing(target, passphrase) as writer:
        writer.write(data)
    return target.getvalue()


def opened(data: bytes, passphrase: str = SECRET, piece: int = 1000) -> bytes:
    reader, found = Opened(io.BytesIO(data), passphrase), b""
    while part := reader.read(piece):
        found += part
    reader.finish()
    return found


def refusal(data: bytes, passphrase: str = SECRET) -> str:
    with pytest.raises(AccordError) as caught:
        opened(data, passphrase)
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_what_was_sealed_comes_back(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert opened(sealed(data)) == data


def test_chunks_are_neither_moved_nor_cut_off() -> None:
    data = sealed(bytes(3 * CHUNK))
    head = data.index(b"\n") + 1 + 16
    one, two, three = (data[head + n * (CHUNK + 16) :][: CHUNK + 16] for n in range(3))
    begin = data[:head]
    assert begin + one + two + three == data
    for wrong in (one + two, one, b"", two + one + three, one + three, one + two + two + three):
        assert refusal(begin + wrong) == "bad-backup"
    other = sealed(bytes(3 * CHUNK))
    assert refusal(begin + other[head:]) == "bad-backup"
    assert refusal(other[: data.index(b"\n")] + data[data.index(b"\n") :]) == "wrong-passphrase"


def test_the_passphrase_is_stretched_and_no_byte_of_it_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("accord_client.sealed_stream.stretch", stretch)  # the real one
    data = sealed(b"patient 7")
    assert refusal(data, "of the backup alonE") == "wrong-passphrase"
    assert b"patient" not in data
    assert stretch("caf\u00e9 caf\u00e9 caf\u00e9", bytes(16)) == stretch(
        "cafe\u0301 cafe\u0301 cafe\u0301", bytes(16)
    )
    with pytest.raises(AccordError, match="short-passphrase"):
        sealed(b"", "short")


def test_what_is_no_sealed_file_is_refused() -> None:
    for wrong in (b"", b"\n", b'{"format":"accord-sealed-stream-v2"}\n', b"x" * 5000):
        assert refusal(wrong) == "bad-backup"
