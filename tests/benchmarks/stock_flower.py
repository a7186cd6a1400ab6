"""Stock Flower 1.41 on the work of the rounds benchmark: SuperLink and SuperNodes as it ships them.

Real processes on loopback, TLS, node authentication, FedAvg that trains only. Everything lives in a
folder that is removed afterwards, and no process outlives the measurement. No network is used.

    python -m tests.benchmarks.stock_flower [--nodes 3] [--parameters 1000] [--rounds 3]
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.fleet import HOST, Certificates

APP = Path(__file__).parent / "stock_app"
BIN = Path(sys.executable).parent  # not resolved: a virtual environment's own
POLL_S = 0.2  # Flower reports no moment at which it is ready, so it is asked


@dataclass(frozen=True)
class Stock:
    """What stock Flower took.

    Attributes:
        seconds: each round, from configuring the training to the aggregated model.
        peak_bytes: the SuperLink's and its server app's resident memory together, where highest.
    """

    seconds: tuple[float, ...]
    peak_bytes: int

    @property
    def median_s(self) -> float:
        """Median seconds a round."""
        return statistics.median(self.seconds)


def measure(
    *, nodes: int = 3, parameters: int = 1_000, rounds: int = 3, timeout_s: float = 600
) -> Stock:
    """Run stock Flower and return what it took.

    Raises:
        RuntimeError: a process ended, the rounds were not done in time, or the sum was wrong; the
            message ends with the log's last lines.
    """
    with tempfile.TemporaryDirectory(prefix="stock-flower-") as name, ExitStack() as stack:
        bench = _Bench(Path(name), stack, time.monotonic() + timeout_s)
        bench.start(nodes)
        return bench.run(nodes, parameters, rounds)


class _Bench:
    def __init__(self, folder: Path, stack: ExitStack, deadline: float) -> None:
        self._folder = folder
        self._stack = stack
        self._deadline = deadline
        self._log = folder / "log"
        self._certificates = Certificates.make(folder)
        self._port = _free_port()
        self._superlink: psutil.Process | None = None
        self._running: list[subprocess.Popen[bytes]] = []
        self._environment = _environment(folder)
        (folder / "config.toml").write_text(
            f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "{HOST}:{self._port}"\n'
            f'root-certificates = "{folder / "ca.pem"}"\n'
        )

    def start(self, nodes: int) -> None:
        folder = self._folder
        certificates = ["--ssl-ca-certfile", "ca.pem", "--ssl-certfile", "cert.pem"]
        certificates += ["--ssl-keyfile", "key.pem"]
        superlink = self._spawn(
            "flower-superlink",
            *("--host", HOST, "--port", str(self._port)),
            *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
            *certificates,
        )
        self._superlink = psutil.Process(superlink.pid)
        self._until_listening(self._port)
        for index in range(nodes):
            key = ec.generate_private_key(ec.SECP384R1())
            private, public = folder / f"node{index}", folder / f"node{index}.pub"
            private.write_bytes(
                key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            )
            public.write_bytes(
                key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
            )
            self._flwr("supernode", "register", str(public), "bench")
            self._spawn(
                "flower-supernode",
                *("--superlink", f"{HOST}:{self._port}", "--root-certificates", "ca.pem"),
                *("--auth-supernode-private-key", private.name),
                *("--host", HOST, "--port", str(_free_port())),
                *certificates,
            )

    def run(self, nodes: int, parameters: int, rounds: int) -> Stock:
        app, times = self._folder / "app", self._folder / "times"
        shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
        (app / "LICENSE").write_text("Apache-2.0\n")
        times.touch()
        config = f'nodes={nodes} parameters={parameters} rounds={rounds} times="{times}"'
        self._flwr("run", str(app), "bench", "--run-config", config)
        peak = 0
        while len(lines := times.read_text().splitlines()) < rounds:
            peak = max(peak, self._resident())
            self._wait(f"{len(lines)} of {rounds} rounds are done")
        figures = [line.split() for line in lines]
        if [float(first) for _, first in figures] != [1.0 + index for index in range(rounds)]:
            raise RuntimeError(f"stock Flower averaged wrongly: {lines}")
        return Stock(tuple(float(seconds) for seconds, _ in figures), peak)

    def _resident(self) -> int:
        """Resident bytes of the SuperLink and its children."""
        assert self._superlink is not None
        total = 0
        for process in (self._superlink, *self._superlink.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def _flwr(self, *arguments: str) -> None:
        done = subprocess.run(
            [BIN / "flwr", *arguments],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise self._failed(f"flwr {arguments[0]} failed: {done.stdout}{done.stderr}")

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        process = self._stack.enter_context(
            _process([str(BIN / command[0]), *command[1:]], self._folder, self._environment)
        )
        self._running.append(process)
        return process

    def _until_listening(self, port: int) -> None:
        while True:
            try:
                socket.create_connection((HOST, port), 1).close()
                return
            except OSError:
                self._wait(f"nothing listens on {port}")

    def _wait(self, what: str) -> None:
        if any(process.poll() is not None for process in self._running):
            raise self._failed(f"a process ended; {what}")
        if time.monotonic() > self._deadline:
            raise self._failed(f"the time is over; {what}")
        time.sleep(POLL_S)

    def _failed(self, why: str) -> RuntimeError:
        tail = self._log.read_text(errors="replace")[-4_000:] if self._log.exists() else ""
        return RuntimeError(f"stock Flower: {why}\n{tail}")


@contextmanager
def _process(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, and every process that it started with it."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        started = []
        if process.poll() is None:
            parent = psutil.Process(process.pid)
            started = [*parent.children(recursive=True), parent]
        for one in started:
            try:
                one.terminate()
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(started, timeout=5)
        for one in alive:
            one.kill()
        process.wait()


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
    return {
        **kept,
        "FLWR_HOME": str(folder),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath))),
    }


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        return int(taken.getsockname()[1])


def main() -> None:
    """Print one JSON object: the median, each round, and the peak memory."""
    parser = argparse.ArgumentParser(prog="stock_flower", description=__doc__)
    for name, default in (("nodes", 3), ("parameters", 1_000), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    stock = measure(**vars(parser.parse_args()))
    figures = {
        "median_s": stock.median_s,
        "seconds": stock.seconds,
        "peak_mib": stock.peak_bytes >> 20,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
