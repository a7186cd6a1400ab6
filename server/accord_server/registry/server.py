"""Serving the registry: HTTPS only, a clean end on SIGTERM."""

import asyncio
import ssl
from collections.abc import Callable
from socket import AF_INET, AF_INET6, AddressFamily, create_server, socket
from types import FrameType

import structlog
import uvicorn

from accord_common.errors import AccordError, UsageError
from accord_server.certificates import reload_certificate
from accord_server.registry.app import create_app
from accord_server.registry.context import Registry
from accord_server.registry.figures import Figures
from accord_server.registry.settings import Settings

log = structlog.get_logger(__name__)

_DRAIN_S = 10  # how long requests in flight may take once a stop was asked for
_KEEP_ALIVE_S = 75  # above a long poll's 30 s, so that clients keep their connection


class Server(uvicorn.Server):
    """Uvicorn that says when it listens and lets long polls go when it stops."""

    def __init__(self, settings: Settings, listening: Callable[[], None]) -> None:
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_DRAIN_S,
        )
        config.load()
        assert isinstance(config.ssl, ssl.SSLContext)  # never plain HTTP
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        super().__init__(config)
        registry = app.state.registry
        assert isinstance(registry, Registry)
        self._settings = settings
        self._listening = listening
        self.registry = registry
        self.figures = Figures(registry)
        self.metrics = registry.metrics.registry

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Bind, then tell."""
        await super().startup(sockets)
        if self.started:
            self.figures.loop = asyncio.get_running_loop()
            self._listening()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Let long polls go, finish what is in flight, hang up on idle connections."""
        await self.registry.changes.close()
        for server in self.servers:
            server.close()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_DRAIN_S)
        for connection in self.server_state.connections:
            transport = connection.transport
            # A polite end would wait 30 s for the TLS farewell of a client that just keeps alive.
            if not transport.get_write_buffer_size():
                transport.abort()
        await super().shutdown(sockets)

    def reload(self) -> None:
        """Show the certificate that is in its file now, from the next connection on; SIGHUP."""
        try:
            reload_certificate(self.config.ssl, self._settings.certificate, self._settings.key)
        except AccordError as error:
            log.error(error.code, detail=error.message, hint=error.hint)
        else:
            log.info("certificate-reloaded", file=str(self._settings.certificate))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; a second signal does not wait. The process ends with exit code 0."""
        self.force_exit = self.should_exit
        self.should_exit = True


def listen(settings: Settings) -> socket:
    """Bind the registry's address; UsageError `cannot-listen` where that fails."""
    try:
        return create_server((settings.host, settings.port), family=_family(settings.host))
    except OSError as error:
        raise UsageError(
            "cannot-listen",
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            hint="Another process may use the port; stop it first.",
        ) from error


def _family(host: str) -> AddressFamily:
    return AF_INET6 if ":" in host else AF_INET
