"""One authority follows another: only by the signature of one that is trusted already."""

from datetime import timedelta
from pathlib import Path

import pytest

from accord_common.authorities import MAX_BUNDLE_BYTES, follow, read_bundle, write_bundle
from accord_common.errors import AccordError
from accord_common.fields import now
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.rotation import retire_ca, rotate_ca


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_ca(tmp_path / "ca", "Test CA", now())
    return tmp_path / "ca"


def bundle(folder: Path) -> bytes:
    return (folder / "ca.pem").read_bytes()


def refusal(trusted: bytes, offered: bytes, days: int = 0) -> str:
    with pytest.raises(AccordError) as caught:
        follow(trusted, offered, now() + timedelta(days=days))
    return caught.value.code


def test_a_successor_is_taken_over_and_the_former_one_dropped_when_it_goes(folder: Path) -> None:
    old = bundle(folder)
    assert follow(old, old, now()) == old
    rotate_ca(folder, now())
    both = follow(old, bundle(folder), now())
    former, present = read_bundle(both)
    assert write_bundle([former]) == old and former.subject != present.subject
    assert follow(both, bundle(folder), now()) == both
    retire_ca(folder, now())
    assert follow(both, bundle(folder), now()) == bundle(folder) == write_bundle([present])


def test_who_slept_through_a_rotation_is_left_with_nothing_new(folder: Path) -> None:
    old = bundle(folder)
    rotate_ca(folder, now())
    retire_ca(folder, now())
    assert refusal(old, bundle(folder)) == "wrong-ca"


def test_nobody_else_is_taken_over(folder: Path, tmp_path: Path) -> None:
    old = bundle(folder)
    stranger = tmp_path / "stranger"
    create_ca(stranger, "Test CA", now())  # the same name
    assert refusal(old, bundle(stranger)) == "wrong-ca"
    assert follow(old, old + bundle(stranger), now()) == old
    rotate_ca(stranger, now())
    assert follow(old, old + bundle(stranger), now()) == old
    rotate_ca(folder, now())
    former, present, vouching = read_bundle(bundle(folder))
    theirs = read_bundle(bundle(stranger))[1]
    assert follow(old, write_bundle([former, theirs, vouching]), now()) == old
    assert follow(old, write_bundle([former, present]), now()) == old  # without the signature
    server = issue(folder, ["a.example"], tmp_path / "s.pem", tmp_path / "s.key", now())
    mixed = bundle(folder) + server.certificate.read_bytes()
    assert follow(old, mixed, now()) == write_bundle([former, present])


def test_what_is_over_is_left_out(folder: Path) -> None:
    old = bundle(folder)
    assert refusal(old, old, days=3651) == "wrong-ca"
    rotate_ca(folder, now() + timedelta(days=3600))
    late = now() + timedelta(days=3655)
    both = write_bundle(read_bundle(bundle(folder))[:2])
    assert follow(both, bundle(folder), late) == write_bundle(read_bundle(both)[1:])


def test_an_authority_that_is_over_vouches_for_nobody(folder: Path) -> None:
    """Its key, found on an old disk, brings no authority in."""
    old = bundle(folder)
    rotate_ca(folder, now() + timedelta(days=3640))
    assert refusal(old, bundle(folder), days=3655) == "wrong-ca"
    assert len(read_bundle(follow(old, bundle(folder), now() + timedelta(days=3641)))) == 2


def test_what_is_no_bundle_is_refused(folder: Path) -> None:
    for wrong in (b"", b"junk", b"x" * (MAX_BUNDLE_BYTES + 1)):
        assert refusal(bundle(folder), wrong) == "bad-certificate"
