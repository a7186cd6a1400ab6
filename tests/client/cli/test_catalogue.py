"""What a node declares and releases: signed here, held to here, at the registry some day."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from accord_client import halts, outbox
from accord_client.agreements import Agreements
from accord_client.catalogue import Catalogue, Declared
from accord_client.datasets import Datasets
from accord_client.deciding import consider
from accord_client.delivery import deliver, waits
from accord_client.registry_sync import refresh
from accord_common.api.client import RegistryClient
from accord_common.catalogue import CatalogueEntry, ReleasedProfile
from accord_common.envelope import Envelope
from accord_common.errors import PolicyError, TransportError, VerificationError
from accord_common.fields import now
from accord_common.files import write_secret
from accord_common.home import Home
from accord_common.manifest import RunManifest
from accord_server.ca import create_ca
from accord_server.certificates import issue
from accord_server.registry.setup import initialise
from tests.catalogued import DISEASE, with_profiles
from tests.client.cli.conftest import Run
from tests.client.cli.test_dataset_verbs import contribution_of
from tests.client.institutions import Institutions, make_institutions
from tests.server.registry.stack import Stack, opened, settings_in
from tests.world import Actor

ETHICS = "DUO:0000021"


@pytest.fixture
def three(tmp_path: Path) -> Institutions:
    return make_institutions(tmp_path, rows=150)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    create_ca(folder, "Test CA", now())
    issue(folder, ["127.0.0.1"], folder / "server.pem", folder / "server.key", now())
    return folder


@pytest.fixture
def stack(tmp_path: Path, three: Institutions, certificates: Path) -> Iterator[Stack]:
    """The registry of these hospitals, which have joined it."""
    settings = settings_in(tmp_path / "registry", certificates)
    settings.home.mkdir()
    write_secret(settings.log_key, three.world.log_key.to_pem())
    invitation = asyncio.run(initialise(settings)).text
    with opened(settings, invitation, three.world) as stack:
        stack.join_all()
        stack.register_datasets()
        stack.sign_agreement()
        yield stack


@pytest.fixture
def me(three: Institutions) -> Actor:
    return three.actor(three.parties[0])


@pytest.fixture
def node(
    accord_node: Run,
    three: Institutions,
    stack: Stack,
    me: Actor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The first hospital's node."""
    monkeypatch.setattr(Home, "registry", lambda home: stack.client(me))

    def call(*arguments: object, text: bool = False) -> object:
        capsys.readouterr()  # what the registry of this process logged
        return accord_node(*arguments, "--home", three.homes[me.id].path, text=text)

    return call  # type: ignore[return-value] # an Outcome, as Run returns


def told(three: Institutions, me: Actor) -> list[str]:
    return [line.kind for line in outbox.lines(three.homes[me.id].path / outbox.FILE_NAME)]


def agree_on_profiles(stack: Stack, three: Institutions) -> str:
    """Every party signs a next version that lets them out; this node's steward too."""
    stack.world = with_profiles(three.world.next_version())
    stack.sign_agreement()
    for party, home in three.homes.items():
        own = Agreements.of(home)
        own.sign(stack.world.agreement, three.actor(party).identity)
        own.complete(stack.world.agreement_envelope)
    return stack.world.agreement_hash


def test_an_entry_is_shown_signed_posted_and_followed(
    node: Run, stack: Stack, three: Institutions, me: Actor
) -> None:
    assert node("dataset", "publish", "tumours").code == "not-confirmed"
    assert told(three, me) == []
    first = node(
        *("dataset", "publish", "tumours", "--title", "<b>Tumours</b>", "--duo", "DS"),
        *("--unit", "radius=mm", "--yes"),
    )
    assert first.json["posted"] and re.search(r"radius +number +0 to 50 +mm", first.err)
    entry = first.json["entry"]
    assert (entry["rows"], entry["duo"], entry["units"]) == ("100-999", [DISEASE], {"radius": "mm"})
    assert not re.search(r"\b150\b", json.dumps(entry))  # the number of rows is in no field
    again = node("dataset", "publish", "tumours", "--description", "From pathology.", "--yes")
    assert again.json["entry"]["version"] == 2
    shown = stack.client(three.actor(three.parties[1])).dataset(me.dataset)
    newest = shown.versions[0]
    assert (newest.title, newest.description, newest.duo) == (
        *("<b>Tumours</b>", "From pathology.", [DISEASE]),
    )
    assert newest.hash == again.json["hash"] and len(shown.versions) == 2
    assert told(three, me) == ["dataset-entry"] * 2
    assert "version 2 of" in node("dataset", "show", "tumours").json["catalogue"]
    for wrong, code in (
        (["--duo", "XYZ"], "unknown-duo-code"),
        (["--unit", "colour=red"], "bad-record"),
        (["--unit", "radius"], "bad-arguments"),
        (["--title", "a\u202eb"], "bad-record"),
        (["--title", "a" * 101], "bad-record"),
        (["--description", "a" * 4001], "bad-record"),
        (["--duo", "HMB", "--duo", "DS"], "bad-record"),
    ):
        assert node("dataset", "publish", "tumours", *wrong, "--yes").code == code, wrong
    (three.folder / "table-0.csv").write_text("radius,texture,malignant\n")
    assert node("dataset", "publish", "tumours", "--yes").code == "dataset-changed"


def test_what_the_registry_could_not_take_waits_on_disk_for_the_daemon(
    node: Run, stack: Stack, three: Institutions, me: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(self: RegistryClient, envelope: Envelope, fence: int | None = None) -> None:
        raise TransportError("registry-unreachable", "no route")

    with monkeypatch.context() as cut:
        cut.setattr(RegistryClient, "post", down)
        made = node("dataset", "publish", "tumours", "--duo", ETHICS, "--yes").json
    assert not made["posted"] and stack.client(me).dataset(me.dataset).versions == []
    with three.open(me.id) as stores:  # another process: all it knows is on the disk
        newest = Catalogue(stores.home).newest(me.dataset)
        assert newest is not None and newest.hash == made["hash"] and waits(stores)
        deliver(stores, stack.client(me))
        assert not waits(stores)
    assert stack.client(me).dataset(me.dataset).versions[0].hash == made["hash"]


def test_a_folder_and_a_registry_that_were_set_back_find_each_other(
    node: Run, stack: Stack, three: Institutions, me: Actor
) -> None:
    home = three.homes[me.id]
    first = node("dataset", "publish", "tumours", "--yes").json
    (path,) = (home.path / "catalogue").glob("*.1.json")
    kept = path.read_bytes()
    path.unlink()
    assert node("dataset", "publish", "tumours", "--yes").json["entry"]["version"] == 2
    assert path.read_bytes() == kept and Envelope.from_bytes(kept).hash == first["hash"]
    body = CatalogueEntry.from_bytes(Envelope.from_bytes(kept).payload)
    path.unlink()
    Catalogue(home).publish(body.model_copy(update={"title": "another"}))
    assert node("dataset", "publish", "tumours", "--yes").code == "catalogue-forked"


def test_a_folder_that_was_set_back_holds_to_what_it_declared_since(
    node: Run, stack: Stack, three: Institutions, me: Actor
) -> None:
    """Before it answers another run; and it gives a registry back what that has lost."""
    home, manifest = three.homes[me.id], three.manifest()
    node("dataset", "publish", "tumours", "--duo", ETHICS, "--yes")
    (path,) = (home.path / "catalogue").glob("*.1.json")
    path.unlink()
    node("agreement", "suspend", three.world.agreement_hash, "--reason", "a leak", "--yes")
    resumed = node("agreement", "resume", three.world.agreement_hash, "--yes").json
    registry = stack.client(me)
    with three.open(me.id) as stores:
        assert consider(stores, three.lookup(manifest), manifest.hash, now()).verdict.decision == (
            "accept"
        )
        seen = refresh(stores, registry)
        verdict = consider(stores, three.lookup(manifest), manifest.hash, now()).verdict
        assert verdict.code == "catalogue-stricter"
        assert not waits(stores) and refresh(stores, registry, seen) == seen

        class Older(RegistryClient):
            """Shows nothing that was said of agreements."""

            def records(self, *_: Any, **__: Any) -> Any:
                return []

        older = cast(Older, registry)
        older.__class__ = Older
        refresh(stores, older)
        left = [Envelope.from_bytes(one.read_bytes()) for one in halts.waiting(stores.agreements)]
        assert [one.kind for one in left] == ["suspension", "resumption"]
        assert resumed["state"] == "resumed" and deliver(stores, older) == 2  # it has them
        assert not waits(stores)


def test_a_profile_follows_none_but_this_nodes_own(
    node: Run, stack: Stack, three: Institutions, me: Actor
) -> None:
    """Whatever the registry says is the newest: its hash would stand in what is signed."""
    hash_ = agree_on_profiles(stack, three)
    node("dataset", "publish", "tumours", "--yes")
    first = node("dataset", "release", "tumours", "--yes").json["hash"]
    home = three.homes[me.id]
    own, dataset = Catalogue(home), Datasets.of(home.path).find("tumours")
    (kept,) = (home.path / "catalogue").glob("*.released.json")
    data = kept.read_bytes()

    class Lying(RegistryClient):
        """Shows another profile than the newest, or none."""

        named: str | None = None

        def dataset(self, dataset_id: str) -> Any:
            honest = super().dataset(dataset_id)
            shown = [view.model_copy(update={"hash": self.named}) for view in honest.profiles]
            return honest.model_copy(update={"profiles": shown if self.named else []})

    liar = cast(Lying, stack.client(me))
    assert own.newest_released(dataset, hash_, liar) == first
    liar.__class__ = Lying
    entry = own.newest(dataset.id)
    assert entry is not None
    for liar.named in (entry.hash, stack.world.agreement_hash):
        with pytest.raises(VerificationError, match=r"\[wrong-record\]"):
            own.newest_released(dataset, hash_, liar)
    liar.named = None  # it lost the first one: it gets that again, and the next one follows it
    assert own.newest_released(dataset, hash_, liar) == first
    second = node("dataset", "release", "tumours", "--yes").json["hash"]
    liar.named = first
    assert own.newest_released(dataset, hash_, liar) == second
    assert ReleasedProfile.from_bytes(Envelope.from_bytes(kept.read_bytes()).payload).previous == (
        first
    )
    kept.write_bytes(data)  # a folder of before: the second one left from another copy
    assert own.newest_released(dataset, hash_, stack.client(me)) == second
    kept.unlink()
    own.catch_up(dataset, stack.client(me))
    assert Envelope.from_bytes(kept.read_bytes()).hash == second


def test_a_profile_stays_here_until_an_agreement_lets_it_out(
    node: Run, stack: Stack, three: Institutions, me: Actor
) -> None:
    made = node("dataset", "profile", "tumours").json
    assert made["step"] == 10 and made["smallest_cell"] == 10
    cells = [share for column in made["columns"] for share in column["levels"]]
    assert cells and all(share % 10 == 0 for share in cells)
    assert not re.search(r"\b150\b", json.dumps(made)) and told(three, me) == []
    assert "withheld" in node("dataset", "profile", "tumours", text=True).out
    assert list((three.homes[me.id].path / "catalogue").glob("*.profile.json"))
    assert node("dataset", "release", "tumours", "--yes").code == "profile-not-agreed"
    first = three.world.agreement_hash
    named = node("dataset", "release", "tumours", "--agreement", first[:8], "--yes")
    assert named.code == "profile-not-agreed"
    assert node("dataset", "release", "lungs", "--yes").code == "unknown-dataset"

    hash_ = agree_on_profiles(stack, three)
    assert node("dataset", "release", "tumours", "--yes").code == "no-catalogue-entry"
    node("dataset", "publish", "tumours", "--yes")
    assert node("dataset", "release", "tumours").code == "not-confirmed"
    released = node("dataset", "release", "tumours", "--yes").json
    assert released["posted"] and released["agreement"] == hash_
    again = node("dataset", "release", "tumours", "--agreement", hash_, "--yes").json
    reader = stack.client(three.actor(three.parties[1]))
    (shown,) = reader.dataset(me.dataset).profiles
    assert shown.hash == again["hash"] and shown.profile.to_json() == made
    followed = ReleasedProfile.from_bytes(reader.record(again["hash"]).payload)
    assert followed.previous == released["hash"]
    assert told(three, me) == ["dataset-entry", "dataset-profile", "dataset-profile"]
    old = node("dataset", "release", "tumours", "--agreement", first, "--yes")
    assert old.code == "agreement-superseded"

    # Rows that left their band, or are too few, tell nothing.
    path = three.folder / "table-0.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:61]) + "\n")
    assert node("dataset", "release", "tumours", "--yes").code == "dataset-changed"
    assert "accord-node dataset publish tumours" in node("dataset", "update", "tumours").err
    assert node("dataset", "release", "tumours", "--yes").code == "catalogue-outdated"
    assert node("dataset", "publish", "tumours", "--yes").json["entry"]["rows"] == "10-99"
    assert node("dataset", "release", "tumours", "--yes").code == "too-few-rows-to-profile"
    assert node("dataset", "profile", "tumours").code == "too-few-rows-to-profile"


def test_two_profiles_of_one_table_have_one_smallest_cell(three: Institutions, me: Actor) -> None:
    """A share that one shows and the other withholds would tell the number of rows exactly."""
    first = with_profiles(three.world, 20).agreement
    with three.open(me.id) as stores:
        own, dataset = Catalogue(stores.home), stores.datasets.find("tumours")
        own.publish(own.draft(dataset, Declared(), now()))
        released = own.release(dataset, "ab" * 32, first, None, now())
        own.send(released, first)
        stricter = with_profiles(three.world, 21).agreement
        with pytest.raises(PolicyError, match=r"\[profile-cell-differs\]") as caught:
            own.release(dataset, "cd" * 32, stricter, None, now())
        assert "21" in caught.value.message and "smallest_cell: 20" in caught.value.hint
        looser = with_profiles(three.world, 10).agreement
        again = own.release(dataset, "ef" * 32, looser, None, now())
        assert again.profile == released.profile
        own.send(again, looser)
        # What only the newest left says of the one before is no way around it.
        with pytest.raises(PolicyError, match=r"\[profile-cell-differs\]"):
            own.release(dataset, "cd" * 32, stricter, None, now())


def test_a_node_takes_part_in_nothing_that_its_own_entry_does_not_allow(
    node: Run, stack: Stack, three: Institutions, me: Actor
) -> None:
    """Neither before it consents nor, once it has, when it opens its data; nor does it sign."""
    manifest = three.manifest()
    with three.open(me.id) as stores:
        assert consider(stores, three.lookup(manifest), manifest.hash, now()).verdict.decision
        contribution_of(stores, RunManifest.from_bytes(manifest.payload)).ready()
        node("dataset", "publish", "tumours", "--duo", ETHICS, "--yes")
        verdict = consider(stores, three.lookup(manifest), manifest.hash, now()).verdict
        assert (verdict.decision, verdict.code) == ("refuse", "catalogue-stricter")
        with pytest.raises(PolicyError, match=r"\[catalogue-stricter\]"):
            contribution_of(stores, RunManifest.from_bytes(manifest.payload)).ready()
    stack.world = three.world.next_version(title="Once more")
    stack.client(stack.world.coordinator).propose(
        stack.world.partly_signed(stack.world.coordinator)
    )
    signed = node("agreement", "sign", stack.world.agreement_hash, "--yes")
    assert signed.code == "catalogue-stricter"


def test_names_are_completed_from_the_folder(three: Institutions, me: Actor) -> None:
    from accord_client.cli.catalogue import names

    class Context:
        params: dict[str, Any] = {"home": three.homes[me.id].path}  # noqa: RUF012

    context: Any = Context()
    assert names(context, "tum") == ["tumours"] and names(context, "x") == []
    (broken,) = Datasets.of(three.homes[me.id].path).folder.glob("*.json")
    broken.write_text("{")
    assert names(context, "") == []
