"""The registry's log over HTTP: `RegistryClient.tree`.

What comes back is the registry's word; checkpoints and proofs are for the caller to verify
(`accord_common.log`). Errors are those of `RegistryClient`.
"""

from collections.abc import Iterator

from accord_common.api import log_schemas as s
from accord_common.api.decoding import decode, decode_list
from accord_common.api.http import Connection
from accord_common.api.schemas import MAX_PAGE
from accord_common.envelope import Envelope
from accord_common.errors import FormatError


class TreeClient:
    """See the module."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def checkpoint(self) -> Envelope:
        """The signed checkpoint of all records now."""
        response = self._http.request("GET", "/v1/log/checkpoint", again=True)
        return decode(s.CheckpointView, response).envelope

    def checkpoints(self, after: int = 0) -> list[Envelope]:
        """One page of kept checkpoints of more than `after` records, by size."""
        params = {"after": after, "limit": MAX_PAGE}
        response = self._http.request("GET", "/v1/log/checkpoints", params=params, again=True)
        return [view.envelope for view in decode_list(s.CheckpointView, response)]

    def inclusion(self, record: str, size: int | None = None) -> s.Inclusion:
        """Proof that a record, by hash, is in the tree of `size` (all, where not given).

        Raises:
            NotFoundError: `unknown-record`.
            UsageError: `wrong-tree-size`.
        """
        params = {"record": record} | ({} if size is None else {"size": str(size)})
        response = self._http.request("GET", "/v1/log/inclusion", params=params, again=True)
        return decode(s.Inclusion, response)

    def proofs(self, size: int, run: str | None = None) -> Iterator[s.Inclusion]:
        """Proofs for all records, or a run's, in the tree of `size`, in order.

        Raises:
            UsageError: `wrong-tree-size`.
            FormatError: `bad-answer` where the registry lists out of order.
        """
        after, params = 0, {} if run is None else {"run": run}
        while True:
            asked = params | {"size": str(size), "after": str(after), "limit": str(MAX_PAGE)}
            response = self._http.request("GET", "/v1/log/proofs", params=asked, again=True)
            page = decode_list(s.Inclusion, response)
            for item in page:
                if item.sequence <= after:
                    raise FormatError("bad-answer", f"record {item.sequence} comes after {after}")
                after = item.sequence
                yield item
            if len(page) < MAX_PAGE:
                return

    def consistency(self, first: int, second: int) -> list[str]:
        """Proof that the tree of `second` records begins with that of `first`.

        Raises:
            UsageError: `wrong-tree-size` where the log has no such trees.
        """
        params = {"first": first, "second": second}
        response = self._http.request("GET", "/v1/log/consistency", params=params, again=True)
        return decode(s.Consistency, response).proof
