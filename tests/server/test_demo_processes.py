"""The demonstration's services: gone when they should be, whoever interrupts."""

from pathlib import Path

import psutil
import pytest

from accord_server.demo.processes import Actor, CommandFailed, Services


def shell(folder: Path, script: str) -> Actor:
    return Actor("Service", "accord", folder, lambda command: ["sh", "-c", script])


def test_a_second_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """Each service answers SIGTERM by interrupting its parent, as an impatient person would."""
    script = "trap 'kill -INT $PPID; exit' TERM; echo '{}'; while :; do sleep 0.05; done"
    actor = shell(tmp_path, script)
    with Services(tmp_path) as services:
        services.start(actor)
        first = services.pid(actor)
        services.start(actor)
        second = services.pid(actor)
    assert not psutil.pid_exists(first) and not psutil.pid_exists(second)


def test_nothing_starts_after_the_stop(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    services = Services(tmp_path)
    services.stop()
    with pytest.raises(CommandFailed, match="stopped"):
        services.start(shell(tmp_path, "echo '{}'; exec sleep 60"))
    assert set(psutil.Process().children()) <= before
