"""Behind a hospital's proxy: one way out, one port, a private authority; and a slow line."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from accord_server.demo.federation import Federation, Share
from accord_server.demo.processes import Actor, Services
from tests import federations
from tests.e2e import hospital
from tests.proxies import HOST, ConnectProxy, Line, SniGateway
from tests.server.registry.stack import free_port

KBIT = 256
REGISTRY, AGGREGATOR = "registry.accord.test", "aggregator.accord.test"
Way = Callable[[list[str]], list[str]]


@contextmanager
def outside(
    folder: Path, inside: Callable[[int], Way], here: Callable[[int], Way], nodes: int = 2
) -> Iterator[tuple[Federation, SniGateway]]:
    """A federation at one address: a gateway tells registry and aggregator apart by their names.

    Args:
        folder: made, for everything.
        inside: the gateway's port to how an institution's commands run.
        here: the same for everybody else's.
        nodes: how many institutions.
    """
    logs, parties = folder / "logs", folder / "parties"
    logs.mkdir(parents=True)
    settings, port = parties / "registry" / "registry" / "registry.json", free_port()
    servers = {
        REGISTRY: lambda: (HOST, int(json.loads(settings.read_text())["port"])),
        AGGREGATOR: lambda: (HOST, port),
    }
    shares = [
        Share(
            f"Site {n}", federations.synthetic_table(n), federations.SIZE, "auto-within-agreement"
        )
        for n in range(nodes)
    ]
    with SniGateway(servers) as gateway, Services(logs) as services:
        at = {"registry": REGISTRY, "aggregator": AGGREGATOR}
        federation = Federation(
            parties,
            services,
            shares,
            federations.synthetic_schema(),
            addresses={name: f"{host}:{gateway.port}" for name, host in at.items()},
            aggregator_at=f"{HOST}:{port}",
        )
        through, around = inside(gateway.port), here(gateway.port)
        federation.nodes = [replace(node, wrap=through) for node in federation.nodes]
        federation.coordinator = replace(federation.coordinator, wrap=around)
        federation.aggregator = replace(federation.aggregator, wrap=around)
        federation.found()
        federation.enrol_all()
        datasets = [{"owner": node.name, "name": "tumours"} for node in federation.nodes]
        federation.agree({**federations.terms(), "datasets": datasets})
        federation.start_aggregator()
        federation.start_nodes()
        yield federation, gateway


@pytest.mark.soak(sample=0, full=1)
def test_a_run_through_a_proxy_that_is_the_only_way(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Everybody but the registry goes through a real proxy with a login, to one port for both."""
    with hospital.network() as network:
        told = "without a route" if network.apart else "no name space may be made here"
        request.node.add_report_section("call", "network", told)
        proxy = hospital.RealProxy(network.gate, tmp_path / "proxy.log")
        try:
            user, password = hospital.LOGIN
            host = proxy.url.removeprefix("http://")
            in_url = f"HTTPS_PROXY=http://{user}:{quote(password)}@{host}"
            apart = (f"https_proxy={proxy.url}", f"ACCORD_PROXY_LOGIN={user}:{password}")
            with outside(
                tmp_path / "f",
                lambda _: lambda command: network.wrap(command, *apart),
                lambda _: lambda command: ["env", in_url, *command],
            ) as (federation, gateway):
                end = federations.complete(federation, rounds=1)[-1]
                node = federation.nodes[0]
                checked = federation.at(node, "check")
                doctored = federation.office("doctor")
                direct = replace(node, wrap=network.wrap)
                lost = check(direct)
            assert end["state"] == "completed", end
            assert checked["ok"] and doctored["ok"], (checked, doctored)
            ways = {(c["name"], c["layer"]) for c in checked["checks"] if c["layer"] == "proxy"}
            assert ways == {("registry", "proxy")}
            ill = [c for c in lost["checks"] if c["name"] == "registry"]
            assert [(c["layer"], c["code"]) for c in ill] == [("dns", "dns-failed")]
            assert {AGGREGATOR, REGISTRY} == set(gateway.seen)
            hospital.wait(lambda: len(proxy.connects()) >= len(gateway.seen))
            assert len(proxy.connects()) == len(gateway.seen)  # and none came any other way
            assert password not in proxy.said() + logged(tmp_path / "f")
        finally:
            proxy.close()


def check(node: Actor) -> dict[str, Any]:
    """`accord-node check` of a node that finds no way out, which is not an error of the verb."""
    done = subprocess.run(
        node.command("check", "--home", node.home / "accord"),
        env=node.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def logged(folder: Path) -> str:
    """Every log below a folder."""
    return "".join(
        path.read_text(errors="replace")
        for pattern in ("*.log", "*.jsonl")
        for path in folder.rglob(pattern)
    )


@pytest.mark.soak(sample=0, full=1)
def test_a_run_over_a_slow_line(tmp_path: Path) -> None:
    """256 kbit/s each way for all sites together, 300 ms there and back: minutes for an update."""
    names = {REGISTRY: HOST, AGGREGATOR: HOST}
    with ExitStack() as stack:
        network = stack.enter_context(hospital.network(KBIT))
        line = Line(rate=None if network.shaped else KBIT * 125, delay_s=0.15)
        slow = stack.enter_context(ConnectProxy(names=names, line=line, address=network.gate))
        quick = stack.enter_context(ConnectProxy(names=names))
        with outside(
            tmp_path / "f",
            lambda _: lambda command: network.wrap(command, f"HTTPS_PROXY={slow.url}"),
            lambda _: lambda command: ["env", f"HTTPS_PROXY={quick.url}", *command],
        ) as (federation, _):
            wide = {"name": "mlp", "hidden": [1024, 256]}
            updates = federations.complete(
                federation,
                rounds=1,
                architecture=wide,
                deadlines={"advertise_s": 120, "update_s": 600, "rejoin_s": 60},
            )
            assert updates[-1]["state"] == "completed", updates[-1]
            (round_,) = [update for update in updates if update["event"] == "round"]
            assert (round_["outcome"], round_["attempt"], round_["lost"]) == ("completed", 0, [])
            assert round_["seconds"] > 60  # longer than any single step may stand still
