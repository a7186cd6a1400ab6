"""The registry's client: a method for each call of SPEC.md's table, but those of pages alone.

Guarantees: what `put_blob` and `get_blob` carry has the hash it is named by. Everything else that
comes back is the registry's word: verify envelopes before deciding by them.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Self

import httpx

from accord_common.agreement import Role
from accord_common.api import agreement_schemas as a
from accord_common.api import membership as m
from accord_common.api import schemas as s
from accord_common.api.budget_calls import BudgetCalls
from accord_common.api.calls import Query
from accord_common.api.dataset_calls import DatasetCalls
from accord_common.api.decoding import decode
from accord_common.api.http import Connection
from accord_common.api.people_calls import PeopleCalls
from accord_common.api.score_calls import ScoreCalls
from accord_common.api.tree import TreeClient
from accord_common.bulk import Body, digest
from accord_common.envelope import Envelope
from accord_common.errors import FormatError, TransportError, UsageError, VerificationError
from accord_common.manifest import RunManifest
from accord_common.network.settings import Network, NetworkFile


class RegistryClient(BudgetCalls, DatasetCalls, PeopleCalls, ScoreCalls):
    """Speaks to one registry as one party.

    Lists are complete unless a method says otherwise. Raises `AccordError` of the class, code and
    hint that the registry answers, and TransportError `registry-unreachable`. Threads may share it.

    Args:
        url: `https://host:port`.
        ca_pem: PEM of the CA certificate pinned at enrolment.
        token: bearer token; None for `info` and `enrol`.
        network: how this party goes out; as the environment says where it is None.
        timeout_s: how long an answer may take, beyond a long poll's own wait.
        transport: replaces the network, for a registry in the same process.
    """

    def __init__(
        self,
        url: str,
        ca_pem: bytes,
        token: str | None = None,
        *,
        network: Network | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(
            Connection(
                url,
                ca_pem,
                token,
                network=Network.made(NetworkFile()) if network is None else network,
                timeout_s=timeout_s,
                transport=transport,
            )
        )

    @property
    def url(self) -> str:
        """The registry's address."""
        return self._http.url

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Joining

    def info(self) -> s.Info:
        """What the registry is."""
        return self._get(s.Info, "/v1/info")

    def ready(self) -> None:
        """Return if the registry can serve; TransportError or its own problem if not."""
        self._get(s.Health, "/readyz")

    def moment(self) -> datetime:
        """The registry's time, to the second; TransportError `bad-answer` where it tells none."""
        response = self._http.request("GET", "/livez", again=True)
        try:
            return parsedate_to_datetime(response.headers["date"])
        except (KeyError, ValueError) as error:
            raise TransportError(
                "bad-answer", f"{self.url} does not say what time it is"
            ) from error

    def ca_bundle(self) -> bytes:
        """The authorities that the registry offers, PEM; see `authorities.follow`."""
        return self._http.request("GET", "/v1/ca.pem").content

    def trust(self, ca_pem: bytes) -> None:
        """Trust these authorities too, from the next connection on."""
        self._http.trust(ca_pem)

    def tell_trust(self, fingerprints: list[str]) -> None:
        """Say which authorities the caller trusts."""
        body = m.TrustRequest(ca=fingerprints).model_dump(mode="json")
        self._http.request("PUT", "/v1/trust", json=body)

    def trusts(self) -> list[m.TrustView]:
        """Which authorities each member has said that it trusts; coordinator, auditor."""
        return self._all(m.TrustView, "/v1/trust", lambda item: item.party)

    def invite(self, role: Role, name: str) -> m.Invitation:
        """Make a one-time invitation; coordinator."""
        return self._post(
            m.Invitation, "/v1/invitations", m.InvitationRequest(role=role, name=name)
        )

    def enrol(self, code: str, enrolment: Envelope, delegation: Envelope | None = None) -> m.Token:
        """Join with an invitation's code; without a token."""
        body = m.EnrolmentRequest(code=code, enrolment=enrolment, delegation=delegation)
        return self._post(m.Token, "/v1/enrolments", body)

    def partners(self) -> list[m.Partner]:
        """All enrolled parties, by id."""
        return self._all(m.Partner, "/v1/partners", lambda item: item.id)

    def partner(self, party: str) -> m.Partner:
        """One party; a pending one may ask about itself."""
        return self._get(m.Partner, f"/v1/partners/{party}")

    def approve(self, party: str) -> m.Partner:
        """Admit a pending party; coordinator."""
        return self._post(m.Partner, f"/v1/partners/{party}/approve", None, again=True)

    def suspend(self, party: str, reason: str) -> m.Partner:
        """Shut a party out until it is readmitted; coordinator."""
        body = m.SuspensionRequest(reason=reason)
        return self._post(m.Partner, f"/v1/partners/{party}/suspend", body, again=True)

    def readmit(self, party: str) -> m.Partner:
        """End a suspension; coordinator."""
        return self._post(m.Partner, f"/v1/partners/{party}/readmit", None, again=True)

    def revoke(self, envelope: Envelope) -> s.Stored:
        """Post a revocation, without a token: its signature is enough, and ends the tokens."""
        body = s.EnvelopeRequest(envelope=envelope)
        return self._post(s.Stored, "/v1/revocations", body, again=True)

    # Agreements; datasets: see `dataset_calls`

    def propose(self, envelope: Envelope) -> s.AgreementView:
        """Put an agreement before its parties, signed by the caller at least."""
        return self.sign_agreement(envelope)

    def sign_agreement(self, envelope: Envelope) -> s.AgreementView:
        """Add signatures to an agreement; the registry joins them with those it has."""
        body = s.EnvelopeRequest(envelope=envelope)
        return self._post(s.AgreementView, "/v1/agreements", body, again=True)

    def agreements(self) -> list[s.AgreementView]:
        """The agreements that name the caller, by hash."""
        return self._all(s.AgreementView, "/v1/agreements", lambda item: item.hash)

    def agreement(self, agreement_hash: str) -> s.AgreementView:
        """One agreement; VerificationError `wrong-hash` where the registry sends another."""
        view = self._get(s.AgreementView, f"/v1/agreements/{agreement_hash}")
        _same(agreement_hash, view.hash)
        return view

    def check_run(self, agreement_hash: str, manifest: RunManifest) -> a.CheckView:
        """Whether a run would be allowed under an agreement, with every reason why not.

        Args:
            agreement_hash: one of the caller's agreements, in any state.
            manifest: the run; delegations, offer and hashes of weights may be zeros.
        """
        path = f"/v1/agreements/{agreement_hash}/check"
        return self._post(a.CheckView, path, a.CheckRequest(manifest=manifest), again=True)

    # Records, offers, blobs

    def post(self, envelope: Envelope, fence: int | None = None) -> s.Stored:
        """Append a signed record; the same record again gives the same place.

        Raises:
            ConflictError: `lease-lost` where `fence` is given and no longer the newest.
        """
        body = s.EnvelopeRequest(envelope=envelope)
        if fence is not None:
            body = s.RecordRequest(envelope=envelope, fence=fence)
        return self._post(s.Stored, "/v1/records", body, again=True)

    def records(
        self,
        after: int = 0,
        kind: str | None = None,
        run: str | None = None,
        limit: int = s.MAX_PAGE,
    ) -> list[s.RecordView]:
        """One page of records behind sequence `after`, in the registry's order."""
        query: Query = {"kind": kind, "run": run, "after": after, "limit": limit}
        return self._page(s.RecordView, "/v1/records", query)

    def record(self, record_hash: str) -> Envelope:
        """One record's envelope; VerificationError `wrong-hash` where it is another."""
        view = self._get(s.RecordView, f"/v1/records/{record_hash}")
        _same(record_hash, view.hash)
        return view.envelope

    def offers(self) -> list[s.OfferView]:
        """Unused offers of live aggregators, the newest 500, newest first; coordinator, auditor."""
        return self._page(s.OfferView, "/v1/offers", {})

    def put_blob(self, data: bytes | Body) -> str:
        """Store bytes (at most 512 MiB) under their SHA-256, which is returned."""
        body = Body.of(data) if isinstance(data, bytes) else data
        if body.size > s.MAX_BLOB_BYTES:
            raise UsageError("too-large", f"{body.size} bytes, the bound is {s.MAX_BLOB_BYTES}")
        name = digest(body)
        self._http.request("PUT", f"/v1/blobs/{name}", content=body, again=True)
        return name

    def get_blob(self, blob_hash: str) -> bytes:
        """Fetch bytes by their SHA-256; errors as `blob`."""
        return b"".join(self.blob(blob_hash))

    def blob(self, blob_hash: str) -> Iterator[bytes]:
        """Fetch bytes by their SHA-256, piece by piece; they count once the last one has come.

        Raises:
            VerificationError: `wrong-hash` at the end, where the bytes have another.
        """
        sha256, size = hashlib.sha256(), 0
        with self._http.stream(f"/v1/blobs/{blob_hash}") as response:
            for piece in response.iter_bytes():
                sha256.update(piece)
                size += len(piece)
                if size > s.MAX_BLOB_BYTES:
                    raise FormatError("too-large", f"blob {blob_hash[:16]} exceeds 512 MiB")
                yield piece
        _same(blob_hash, sha256.hexdigest())

    @property
    def tree(self) -> TreeClient:
        """The log: checkpoints and proofs."""
        return TreeClient(self._http)

    # Runs

    def runs(self, state: s.RunState | None = None) -> list[s.RunView]:
        """The runs that name the caller, oldest first."""
        return self._all(s.RunView, "/v1/runs", lambda item: item.id, {"state": state})

    def run(self, run: str) -> s.RunView:
        """One run."""
        return self._get(s.RunView, f"/v1/runs/{run}")

    def rounds(self, run: str) -> list[s.RoundView]:
        """Every attempt at every round so far, in order."""
        return self._counted(s.RoundView, f"/v1/runs/{run}/rounds", len)

    def stop(self, run: str, reason: str) -> s.RunView:
        """Ask that a run end; an unsigned request that the aggregator heeds. Coordinator."""
        return self._post(
            s.RunView, f"/v1/runs/{run}/stop", s.StopRequest(reason=reason), again=True
        )

    def lease(
        self,
        run: str,
        holder: str,
        ttl_s: int,
        fence: int | None = None,
        waiting: str | None = None,
    ) -> s.Lease:
        """Claim a run, or by its `fence` renew it, or lay it down (`ttl_s` 0); aggregator.

        Raises:
            ConflictError: `leased` while another holder's claim lasts, `lease-lost`,
                `run-not-ready`, `run-over`.
        """
        body = s.LeaseRequest(holder=holder, ttl_s=ttl_s, fence=fence, waiting=waiting)
        return self._post(s.Lease, f"/v1/runs/{run}/lease", body, again=True)

    def log(self, run: str, level: s.Level, message: str) -> s.EventView:
        """Add a line for people who watch the run; not repeated on failure."""
        body = s.EventRequest(level=level, message=message)
        return self._post(s.EventView, f"/v1/runs/{run}/events", body)

    def events(self, run: str, after: int = 0, wait_s: float = 0.0) -> list[s.EventView]:
        """One page of lines behind sequence `after`; waits up to `wait_s` (30 s) for the first."""
        query: Query = {"after": after, "wait": wait_s}
        return self._page(s.EventView, f"/v1/runs/{run}/events", query, wait_s=wait_s)

    def inbox(self, after: int = 0, wait_s: float = 0.0) -> s.Inbox:
        """What waits for the caller; returns at once where it changed after cursor `after`."""
        response = self._http.request(
            "GET", "/v1/inbox", params={"after": after, "wait": wait_s}, wait_s=wait_s, again=True
        )
        return decode(s.Inbox, response)


def _same(wanted: str, found: str) -> None:
    if wanted != found:
        raise VerificationError("wrong-hash", f"asked for {wanted[:16]}, got {found[:16]}")
