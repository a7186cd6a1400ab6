"""A relay between nodes and an aggregator that counts what passes, and changes nothing.

It may be `cut`: then it takes connections and bytes, as a network's buffers do, and passes on none.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

_READ_BYTES = 1 << 18


class Relay:
    """Listens on a port of its own; TLS runs through it from end to end.

    Attributes:
        port: where nodes connect.
        down: bytes from the aggregator to nodes so far, as the sockets carried them.
        up: the other way.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.down = self.up = 0
        self._target = 0
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()

    def open(self, target: int) -> None:
        """Pass on to this port from now."""
        self._target = target
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Pass on nothing meanwhile; what was on its way arrives afterwards."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                node, _ = self._listening.accept()
                try:
                    aggregator = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # it is not there at the moment
                    node.close()
                    continue
                for side in (node, aggregator):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._join, args=(node, aggregator), daemon=True).start()

    def _join(self, node: socket.socket, aggregator: socket.socket) -> None:
        """Pass both ways until both have ended."""
        with node, aggregator:
            down = threading.Thread(target=self._pass, args=(aggregator, node, False), daemon=True)
            down.start()
            self._pass(node, aggregator, True)
            down.join()

    def _pass(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_READ_BYTES):
                self._flowing.wait()
                with self._lock:
                    if up:
                        self.up += len(data)
                    else:
                        self.down += len(data)
                sink.sendall(data)
        for side in (source, sink):  # the other direction ends with it, and frees both
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
