"""A plug-in of proxy.py: names that only the proxy resolves, as an institution's proxy does."""

from proxy.http.proxy import HttpProxyBasePlugin

SUFFIX = ".accord.test"


class Names(HttpProxyBasePlugin):
    """Leads every name below the suffix to this machine."""

    def resolve_dns(self, host: str, port: int) -> tuple[str | None, tuple[str, int] | None]:
        return ("127.0.0.1" if host.endswith(SUFFIX) else None), None
