"""Renewing, exchanging and revoking keys against a registry that may die at any answer."""

import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from accord_common import delegating, joining
from accord_common.api.client import RegistryClient
from accord_common.delegating import Renewed, is_exchanging, revoke
from accord_common.enrolment import DELEGATION, Delegation, verify_delegation, verify_revocation
from accord_common.envelope import Envelope
from accord_common.errors import AccordError, AuthError, ConflictError, TransportError
from accord_common.fields import now
from accord_common.files import replace_file
from accord_common.home import NEXT, Home

SECRET = "correct horse battery"


class Registry:
    """One party's chain of delegations and revocations."""

    def __init__(self, home: Home) -> None:
        self.chain = [home.delegation()]
        self.away = self.deaf = self.unknown = False  # no answer; loses one; no such token
        self.stale: Any = None  # an old answer

    def partner(self, party: str) -> Any:
        if self.unknown:
            raise AuthError("bad-token", "the bearer token is not known")
        if self.stale is not None:
            return self.stale
        newest = self.chain[-1]
        revoked = newest.kind != DELEGATION
        return SimpleNamespace(
            delegation=None if revoked else newest, revoked=newest.hash if revoked else None
        )

    def post(self, envelope: Envelope) -> None:
        if self.away:
            raise TransportError("registry-unreachable", "no route")
        if self.unknown:
            raise AuthError("bad-token", "the bearer token is not known")
        if envelope not in self.chain:
            if Delegation.from_bytes(envelope.payload).previous != self.chain[-1].hash:
                raise ConflictError("forked-chain", "the chain goes on from elsewhere")
            self.chain.append(envelope)
        if self.deaf:
            self.deaf = False
            raise TransportError("registry-unreachable", "the answer was lost")

    def revoke(self, envelope: Envelope) -> None:
        if self.away:
            raise TransportError("registry-unreachable", "no route")
        if envelope not in self.chain:
            self.chain.append(envelope)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(
        "accord_common.sealed_key.stretch",
        lambda passphrase, salt: sha256(salt + passphrase.encode()).digest(),
    )
    return Home.create(
        tmp_path / "home",
        name="Hospital",
        role="data-holder",
        jurisdiction="DE",
        contact="x",
        passphrase=SECRET,
    )


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


def renew(home: Home, registry: Registry, *, rotate_key: bool = False) -> Renewed:
    return delegating.renew(
        home,
        cast(RegistryClient, registry),
        SECRET,
        rotate_key=rotate_key,
        before_rotating=lambda: None,
        moment=now(),
    )


def keys(home: Home) -> tuple[str, str]:
    return home.node_key().public, home.flower_key().public


def refusal(call: Any) -> str:
    with pytest.raises(AccordError) as caught:
        call()
    return caught.value.code


def in_force(home: Home, registry: Registry) -> Delegation:
    """What the registry has newest is the folder's, and names the folder's keys."""
    opened = Home.open(home.path)
    assert opened.delegation() == registry.chain[-1] and not (home.path / NEXT).exists()
    profile = home.profile
    given = verify_delegation(
        opened.delegation(), identity_key=profile.identity_key, party=profile.party
    )
    assert (given.node_key, given.flower_key) == keys(opened)
    return given


def test_a_renewal_names_its_predecessor_and_keeps_the_keys(home: Home, registry: Registry) -> None:
    before, first = keys(home), home.delegation()
    done = renew(home, registry)
    assert (done.rotated, done.posted, keys(home)) == (False, True, before)
    assert in_force(home, registry).previous == first.hash
    assert home.delegations() == [first, registry.chain[-1]] or home.delegations()[-1] != first


@pytest.mark.parametrize("rotate_key", [False, True])
def test_a_registry_that_lost_a_delegation_gets_the_next(
    home: Home, registry: Registry, rotate_key: bool
) -> None:
    """It was restored from a backup; the folder knows what it has."""
    first = registry.chain[-1]
    renew(home, registry, rotate_key=rotate_key)
    present = keys(home)
    registry.chain.pop()
    renew(home, registry)
    assert in_force(home, registry).previous == first.hash and keys(home) == present


def test_new_keys_are_in_force_and_the_old_ones_known(home: Home, registry: Registry) -> None:
    before = keys(home)
    done = renew(home, registry, rotate_key=True)
    after = in_force(home, registry)
    assert done.rotated and not set(keys(home)) & set(before)
    assert home.node_keys() == {before[0], after.node_key}
    renew(home, registry, rotate_key=True)
    assert len(home.node_keys()) == 3 and len(home.delegations()) == 3


def test_an_answer_that_was_lost_is_asked_for_again(home: Home, registry: Registry) -> None:
    before = keys(home)
    registry.deaf = True
    assert refusal(lambda: renew(home, registry, rotate_key=True)) == "registry-unreachable"
    assert keys(home) == before and is_exchanging(home)
    registry.away = True
    assert refusal(lambda: renew(home, registry)) == "registry-unreachable"
    registry.away = False
    assert renew(home, registry).rotated  # goes on with what was begun
    in_force(home, registry)
    assert len(registry.chain) == 2


@pytest.mark.parametrize("files", range(5))
def test_a_death_while_keys_are_put_in_place_is_made_good(
    home: Home, registry: Registry, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    written: list[Path] = []

    def dies(path: Path, data: bytes, real: Any = replace_file) -> None:
        if len(written) == files and path.name != "posted":
            raise KeyboardInterrupt
        written.append(path) if path.name != "posted" else None
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("accord_common.home.replace_file", dies)
        if files < 4:  # the former delegation, two keys, the delegation
            with pytest.raises(KeyboardInterrupt):
                renew(home, registry, rotate_key=True)
        else:
            renew(home, registry, rotate_key=True)
    in_force(home, registry)
    assert len(home.node_keys()) == 2


def test_what_the_registry_refuses_leaves_nothing(home: Home, registry: Registry) -> None:
    before = home.delegation()
    head = registry.chain[-1]
    assert refusal(lambda: _overtaken(home, registry)) == "forked-chain"
    assert not (home.path / NEXT).exists() and home.delegation() == before == head


def _overtaken(home: Home, registry: Registry) -> None:
    """Somebody else renews between the question and the answer."""
    partner = registry.partner("")
    registry.stale = partner
    registry.chain.append(registry.chain[0].__class__(DELEGATION, b"{}", ()))
    renew(home, registry)


def test_an_older_copy_of_the_folder_does_not_bring_old_keys_back(
    home: Home, registry: Registry, tmp_path: Path
) -> None:
    copy = Home(tmp_path / "copy", home.profile)
    shutil.copytree(home.path, copy.path)
    renew(home, registry, rotate_key=True)
    assert refusal(lambda: renew(copy, registry)) == "older-home"
    assert renew(copy, registry, rotate_key=True).rotated
    in_force(copy, registry)


def test_revoked_keys_come_back_only_as_new_ones(home: Home, registry: Registry) -> None:
    client = cast(RegistryClient, registry)
    registry.away = True
    assert refusal(lambda: revoke(home, client, SECRET, "stolen", now())) == "registry-unreachable"
    assert home.revocation() is None
    registry.away = False
    told = revoke(home, client, SECRET, "stolen", now())
    assert home.revocation() == told == registry.chain[-1]
    profile = home.profile
    body = verify_revocation(told, identity_key=profile.identity_key, party=profile.party)
    assert body.previous == registry.chain[0].hash
    assert revoke(home, client, SECRET, "again", now()) == told and len(registry.chain) == 2
    assert refusal(lambda: renew(home, registry)) == "key-revoked"
    assert refusal(lambda: joining.enrol(home, INVITATION, SECRET)) == "key-revoked"
    registry.unknown = True  # the tokens ended with it
    registry.chain.pop()  # it was set back to a backup from before
    assert revoke(home, client, SECRET, "again", now()) == told == registry.chain[-1]
    done = renew(home, registry, rotate_key=True)
    assert done.rotated and not done.posted and home.revocation() is None
    assert done.delegation.previous == told.hash


def test_a_renewal_begun_before_the_revocation_does_not_bring_the_keys_back(
    home: Home, registry: Registry
) -> None:
    before = keys(home)
    registry.away = True
    assert refusal(lambda: renew(home, registry)) == "registry-unreachable"
    registry.away = False
    told = revoke(home, cast(RegistryClient, registry), SECRET, "stolen", now())
    assert refusal(lambda: renew(home, registry)) == "key-revoked"
    registry.unknown = True
    done = renew(home, registry, rotate_key=True)
    assert done.rotated and done.delegation.previous == told.hash
    assert not set(keys(home)) & set(before)


INVITATION = joining.format_invitation(
    joining.InvitationText(
        ca="0" * 64, code="x" * 43, name="Hospital", role="data-holder", url="https://r.test"
    )
)
