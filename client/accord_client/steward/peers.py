"""Which operating-system user is at the other end of a connection on this machine.

Guarantees: the kernel's word, for an established connection; None where it has none. A browser
sends cookies to every port of one host name, so another person on this machine could otherwise lure
them to a port of their own, and come here with them. Linux only: /proc/net/tcp (proc(5)).

Not covered: root, who may be anybody.
"""

import os
import socket
import struct
from ipaddress import ip_address
from pathlib import Path

Address = tuple[str, int]

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"


def uid_of(peer: Address, here: Address) -> int | None:
    """Find the user who owns the socket at `peer` of a connection to `here`."""
    for table in _TABLES:
        wide = table.name == "tcp6"
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
            wanted = _written(peer, wide), _written(here, wide)
        except (OSError, ValueError):
            continue
        for line in lines:
            _, local, remote, state, _, _, _, uid, *_ = line.split()
            if (local, remote) == wanted and state == _ESTABLISHED:
                return int(uid)
    return None


def _written(address: Address, wide: bool) -> str:
    """An address as the table writes it: 32-bit words in the machine's order, and the port."""
    host, port = ip_address(address[0]), address[1]
    if host.version == 6 and not wide:
        raise ValueError(host)
    text = f"::ffff:{host}" if wide and host.version == 4 else str(host)
    packed = socket.inet_pton(socket.AF_INET6 if wide else socket.AF_INET, text)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return f"{''.join(f'{word:08X}' for word in words)}:{port:04X}"


def own_uids() -> frozenset[int]:
    """This user, and whoever became this user by sudo to start the process."""
    caller = os.environ.get("SUDO_UID", "")
    return frozenset({os.getuid(), *([int(caller)] if caller.isdigit() else [])})
