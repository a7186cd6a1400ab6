"""A connection's own buffers: what waits in them is waited for in vain by a time limit."""

import socket

from accord_common.network.dial import ProxyRefused, dial
from tests.proxies import HOST


def test_little_waits_in_this_machine_on_a_line_that_stands_still() -> None:
    """Without the bound the kernel takes 4 MB, two minutes at 256 kbit/s."""
    with socket.create_server((HOST, 0)) as listening:
        with dial(HOST, listening.getsockname()[1], None) as connected:
            other, _ = listening.accept()
            taken = 0
            with other:  # reads nothing
                connected.settimeout(0.3)
                try:
                    while taken < 8 << 20:
                        taken += connected.send(bytes(16 << 10))
                except TimeoutError:
                    pass
    assert 0 < taken < 1 << 20


def test_a_proxy_writes_no_control_characters_on_a_terminal() -> None:
    refused = ProxyRefused(403, "\x1b]0;owned\x07No\x9b2J" + "x" * 1000)
    assert refused.reason.isprintable() and len(refused.reason) == 200
    assert str(refused).isprintable() and refused.reason.startswith("]0;ownedNo2J")
