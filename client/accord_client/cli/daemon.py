"""`accord-node start` and `accord-node status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accord_client.cli.options import (
    DEFAULT_HOME,
    CoresOption,
    HomeOption,
    HoursOption,
    MemoryOption,
    MetricsFileOption,
    MetricsPushOption,
    MostRunsOption,
    StartDeviceOption,
    open_home,
)
from accord_common.cli import Format, FormatOption, emit, table
from accord_common.logs import (
    LOG_BACKUPS,
    LOG_MIB,
    DebugOption,
    LogBackupsOption,
    LogFile,
    LogFileOption,
    LogSizeOption,
)

RENEW = "accord-node renew"

if TYPE_CHECKING:
    from accord_client.stores import Stores

START_EXAMPLE = "Example: accord-node start (Ctrl-C or SIGTERM ends it; systemd may restart it)"
STATUS_EXAMPLE = "Example: accord-node status --format json"


def start(
    home: HomeOption = DEFAULT_HOME,
    device: StartDeviceOption = None,
    cores: CoresOption = None,
    memory_mib: MemoryOption = None,
    hours: HoursOption = None,
    most_runs: MostRunsOption = None,
    log_file: LogFileOption = None,
    log_mib: LogSizeOption = LOG_MIB,
    log_backups: LogBackupsOption = LOG_BACKUPS,
    debug: DebugOption = False,
    metrics_file: MetricsFileOption = None,
    metrics_push: MetricsPushOption = "",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Run the node: wait for runs, check them, train, send masked updates.

    One outbound connection goes to the registry, one to a run's aggregator; nothing listens here.
    Progress goes to stderr, all events to logs/node.jsonl in the node's folder or to --log-file,
    rotated; SIGHUP opens it anew. Neither holds a row; why a round was refused: accord-node status.

    What it may use can also stand in settings.toml in the node's folder (device, cores, memory_mib,
    hours, most_runs); an option comes before it.
    """
    import os
    import signal
    import threading

    import structlog

    from accord_client.limits import Limits
    from accord_client.telling import require_usable

    opened = open_home(home)
    require_usable(metrics_file, metrics_push)
    limits = Limits.load(
        opened.path,
        device=device,
        cores=cores,
        memory_mib=memory_mib,
        hours=tuple(hours) if hours else None,
        most_runs=most_runs,
    )
    os.environ["FLWR_HOME"] = str(opened.path / "flower")  # flwr looks when it is imported

    from accord_client import logs
    from accord_client.lock import only_daemon
    from accord_client.metrics import render
    from accord_client.node import Node
    from accord_client.stores import open_stores
    from accord_client.telling import Telling
    from accord_client.trainer import warm_up

    with only_daemon(opened.path), opened.registry() as registry, open_stores(opened) as stores:
        own = LogFile(opened.path / logs.FILE, log_mib, log_backups)
        logs.configure(LogFile.given(log_file, log_mib, log_backups) or own, debug=debug)
        limits.bind()
        limits.note(stores.state)
        node = Node(stores, registry, limits=limits)
        telling = Telling(
            lambda: render(
                stores, {run: one.link.connected for run, one in list(node.served.items())}
            ),
            metrics_file,
            metrics_push,
            opened.profile.party,
            opened.network(),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: node.stop())
        warm_up(limits.device)
        structlog.get_logger(__name__).info("node-started", registry=registry.url)
        emit(
            {"status": "started", "pid": os.getpid(), "registry": registry.url},
            format_,
            f"The node of {opened.profile.name} runs; registry {registry.url}",
        )
        if metrics_file is not None or metrics_push:
            node.changed = telling.wake
            threading.Thread(target=telling.run, name="metrics", daemon=True).start()
        node.run()
        telling.stop()
        structlog.get_logger(__name__).info("node-stopped")


def status(home: HomeOption = DEFAULT_HOME, format_: FormatOption = Format.TEXT) -> None:
    """Show the daemon, the runs that named this node, and what waits for you. Needs no network."""
    from accord_client.lock import running_pid
    from accord_client.stores import open_stores
    from accord_common.api.schemas import FINAL_STATES

    opened = open_home(home)
    with open_stores(opened) as stores:
        pid = running_pid(opened.path)
        view = _view(stores) | {"running": pid is not None, "pid": pid}
    asked = [run for run in view["runs"] if run["waits_for_you"]]
    seen = view["registry_seen"] or "never"
    lines = [
        f"{opened.profile.name}: " + (f"running, process {pid}" if pid else "not running"),
        f"registry {view['registry'] or 'not joined'}, last heard {seen}",
        *([f"limits: {_limits(view['limits'])}"] if view["limits"] else []),
        f"{view['queued']} records wait to be posted; {len(view['datasets'])} datasets",
        *(
            f"own cap on {one['dataset']}: epsilon {one['epsilon']} at delta {one['delta']}"
            for one in view["own_caps"]
        ),
        *([f"FROZEN: {view['ledger_behind']}: accord-node check"] if view["ledger_behind"] else []),
        *([f"FROZEN: {view['log_broken']}: accord-node check"] if view["log_broken"] else []),
        *(f"{one['trouble']}: {one['renew']}" for one in view["expiring"]),
        *(
            f"{run['title']} waits, number {run['place']}: {run['dataset']} is in another run"
            for run in view["runs"]
            if run["place"]
        ),
        *(f"waits for you: accord-node approve {run['id']}   ({run['title']})" for run in asked),
    ]
    keys = ("id", "title", "dataset", "decision", "state", "round", "code")
    headers = ("run", "title", "dataset", "decision", "state", "round", "why")
    shown = [
        run | {"round": _from_one(run["round"]), "code": run["code"] or _refusal(run["refusal"])}
        for run in view["runs"]
    ]
    lines += [
        f"{run['title']}: refuses since round {run['refusal']['round'] + 1}: "
        f"{run['refusal']['reason']} [{run['refusal']['code']}]"
        for run in view["runs"]
        if run["refusal"] is not None and run["state"] not in FINAL_STATES
    ]
    lines += [
        f"{run['title']}: no way to the aggregator since {run['aggregator']['since']}: "
        f"{run['aggregator']['message']} [{run['aggregator']['code']}] {run['aggregator']['hint']}"
        for run in view["runs"]
        if run["aggregator"] is not None
    ]
    runs = table(*headers, rows=[[run[key] for key in keys] for run in shown])
    emit(view, format_, "\n".join([*lines, *([runs] if view["runs"] else [])]))


def _refusal(refusal: dict[str, Any] | None) -> str:
    return "" if refusal is None else f"{refusal['code']} from round {refusal['round'] + 1}"


def _limits(limits: dict[str, Any]) -> str:
    """What is limited, in the words of the settings."""
    return ", ".join(f"{name} {value}" for name, value in limits.items() if value not in (None, []))


def _from_one(round_: int | None) -> int | None:
    """Records count rounds from 0, people from 1."""
    return None if round_ is None else round_ + 1


def _view(stores: Stores) -> dict[str, Any]:
    from accord_client.contact import REGISTRY_SEEN, trouble_of
    from accord_client.limits import Limits
    from accord_client.queueing import waiting
    from accord_client.reconciling import behind
    from accord_client.witness import trouble as log_trouble
    from accord_common.fields import format_time, now

    frozen, unbelieved = behind(stores), log_trouble(stores)
    profile = stores.home.profile
    queue, caps = waiting(stores), stores.ledger.rules.caps
    return {
        "party": profile.party,
        "name": profile.name,
        "registry": profile.registry_url,
        "registry_seen": stores.state.get(REGISTRY_SEEN),
        "queued": stores.state.queued(),
        "expiring": [
            {"trouble": trouble, "until": format_time(term.until), "renew": term.renew}
            for term in stores.home.terms(RENEW)
            if (trouble := term.trouble(now())) is not None
        ],
        "limits": Limits.noted(stores.state),
        "datasets": [dataset.name for dataset in stores.datasets.all()],
        "own_caps": [
            {"dataset": dataset.name, "epsilon": cap.epsilon, "delta": cap.delta}
            for dataset in stores.datasets.all()
            if (cap := caps.get(dataset.population)) is not None
        ],
        "ledger_head": stores.ledger.head,
        "ledger_behind": None if frozen is None else frozen.message,
        "log_broken": None if unbelieved is None else f"[{unbelieved.code}] {unbelieved.message}",
        "runs": [
            {
                "id": run.id,
                "title": run.title,
                "dataset": run.dataset,
                "decision": None if run.decision == "ask" else run.decision,
                "place": queue.get(run.id),
                "waits_for_you": run.decision == "ask"
                and run.state == "awaiting-consent"
                and run.id not in queue,
                "code": run.code,
                "reason": run.reason,
                "state": run.state,
                "round": None if run.round < 0 else run.round,
                "attempt": None if run.attempt < 0 else run.attempt,
                "aggregator": trouble_of(stores, run.id) if run.state == "running" else None,
                "refusal": None
                if run.refused_round is None
                else {
                    "round": run.refused_round,
                    "code": run.refused_code,
                    "reason": run.refused_reason,
                },
            }
            for run in stores.state.runs()
        ],
    }
