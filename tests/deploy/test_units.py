"""The systemd units: hardened, and a federation trains within what they allow."""

import dataclasses
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from accord_server.demo import scenario
from accord_server.demo.federation import Federation
from accord_server.demo.processes import Actor, Services
from tests.deploy import units

MOST_EXPOSURE = 3  # systemd-analyze's scale ends at 10
FIRST_UID = 52_101


@pytest.mark.parametrize("name", units.NAMES)
def test_a_unit_runs_as_nobody_else_and_writes_nowhere_else(name: str) -> None:
    said = units.settings(name)
    assert said["User"] == said["Group"] == said["StateDirectory"] == [name]
    assert "ReadWritePaths" not in said
    users = (units.FOLDER / "accord.sysusers.conf").read_text()
    assert f"u {name} " in users and f" /var/lib/{name}\n" in users
    (start,) = said["ExecStart"]
    folders = [word for word in start.split() if word.startswith("/var/")]
    assert folders and all(Path(word).is_relative_to(f"/var/lib/{name}") for word in folders)


@pytest.mark.soak(sample=0, full=1)
@pytest.mark.parametrize("name", units.NAMES)
def test_systemd_rates_its_exposure_below_three(name: str, size: int) -> None:
    file = units.FOLDER / f"{name}.service"
    told = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            f"--threshold={10 * MOST_EXPOSURE}",
            file,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-300:]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may pass through."""
    with tempfile.TemporaryDirectory(prefix="accord-units-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def boxed(actor: Actor, sandbox: units.Sandbox, uid: int) -> Actor:
    """The actor's services run in the sandbox; what its administrator types does not."""

    def wrap(command: list[str]) -> list[str]:
        if "start" not in command:
            return command
        sandbox.own(actor.home, uid)
        return sandbox.wrap(command, uid)

    return dataclasses.replace(actor, wrap=wrap)


@pytest.mark.soak(sample=0, full=1)
def test_three_services_train_within_what_their_units_allow(folder: Path, size: int) -> None:
    made = scenario.tumours(folder)
    uids = tuple(range(FIRST_UID, FIRST_UID + 5))
    names = dict(
        zip(uids, ["accord-node"] * 3 + ["accord-registry", "accord-aggregator"], strict=True)
    )
    sandbox = units.Sandbox(uids[:3], (), (), units=names)
    shares = [dataclasses.replace(share, policy="auto-within-agreement") for share in made.shares]
    (folder / "logs").mkdir()
    with Services(folder / "logs") as services:
        federation = Federation(
            folder / "parties", services, shares, made.schema, sandbox, dataset=made.dataset
        )
        (folder / "parties").chmod(0o755)
        federation.registry = boxed(federation.registry, sandbox, uids[3])
        federation.aggregator = boxed(federation.aggregator, sandbox, uids[4])
        federation.found()
        federation.enrol_all()
        datasets = [{"owner": node.name, "name": made.dataset} for node in federation.nodes]
        federation.agree({**made.terms, "datasets": datasets})
        federation.start()
        plan = {**made.plan, "agreement": federation.agreement, "rounds": 2}
        run = federation.start_run(plan)
        lines = services.follow(
            federation.coordinator, "run", "watch", run, "--home",
            federation.coordinator.home / "accord",
        )  # fmt: skip
        assert list(lines)[-1]["state"] == "completed"
        for actor, uid in _services(federation, uids):
            _assert_confined(services.pid(actor), uid, names[uid])
        tried = sandbox.wrap(
            ["sh", "-c", "for f in /etc /usr /var /; do touch $f/x; done"], uids[0]
        )
        refused = subprocess.run(tried, capture_output=True, text=True, check=False).stderr
        assert refused.count("Read-only file system") + refused.count("No such file") == 4
    for actor, uid in _services(federation, uids):
        calls = units.called(actor.home / "calls.txt")
        assert {"execve", "openat", "futex"} <= calls
        extra = calls - units.allowed_calls(names[uid])
        assert not extra, f"{names[uid]} refuses {sorted(extra)}"


def _services(federation: Federation, uids: tuple[int, ...]) -> Iterator[tuple[Actor, int]]:
    yield from zip(
        [*federation.nodes, federation.registry, federation.aggregator], uids, strict=True
    )


def _assert_confined(strace: int, uid: int, name: str) -> None:
    """Look at the service itself, which is strace's child."""
    children = Path(f"/proc/{strace}/task/{strace}/children").read_text().split()
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{children[0]}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == [str(uid)] * 4, name
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"
