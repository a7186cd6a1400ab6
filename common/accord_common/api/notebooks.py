"""A registry for notebooks and scripts: typed objects, lists that become data frames.

    from accord_common.api.notebooks import connect

    with connect("https://registry.example.org:8443", token, "ca.pem") as accord:
        pandas.DataFrame(accord.balances().rows())

Guarantees: reads only; every method names the call of SPEC.md's table that it makes. `recompute`
and `lineage` verify each signature and compute each figure here; all else is the registry's word.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel

from accord_common import chain
from accord_common.api.budget_schemas import (
    BalanceRow,
    BudgetRow,
    CombinedRow,
    ExceptionRow,
    SpendRow,
)
from accord_common.api.client import RegistryClient
from accord_common.api.rows import to_csv, to_rows
from accord_common.api.schemas import MAX_PAGE, RunView
from accord_common.api.tracing import records_of, trace
from accord_common.costs import same_epsilon
from accord_common.envelope import Envelope
from accord_common.fields import Dec, Hash, Id
from accord_common.lineage import Lineage
from accord_common.receipts import CONSENT, NODE_RECEIPT
from accord_common.recomputing import SiteSpending, recompute

_Row = TypeVar("_Row", bound=BaseModel)


class Listed(list[_Row], Generic[_Row]):
    """A list of typed rows.

    Args:
        model: what they are.
        found: the rows.
    """

    def __init__(self, model: type[_Row], found: Iterable[_Row] = ()) -> None:
        super().__init__(found)
        self._model = model

    def rows(self) -> list[dict[str, Any]]:
        """One flat dict a row: `pandas.DataFrame(found.rows())`; decimals are strings."""
        return to_rows(self)

    def csv(self) -> str:
        """RFC 4180 with a header line; nothing in it is a formula to a spreadsheet."""
        return to_csv(self._model, self)


class Recomputed(BaseModel):
    """What signed receipts show of a run's site, beside what the registry and the result say.

    Attributes:
        attempts: by the receipts whose signatures were verified here.
        epsilon: what counts against the cap (RDP filter), computed here.
        fixed_plan: epsilon as results tell it (PLD), computed here.
        head: the newest of the site's records.
        registry_attempts: by `/v1/budgets`.
        registry_epsilon: by `/v1/budgets`.
        told: attempts by the signed result, which may count one that was sent and never charged.
        told_epsilon: epsilon by the signed result.
        agrees: the registry says the same, and the result does not say less.
    """

    run: Id
    party: Id
    dataset: Id
    attempts: int
    head: Hash | None
    epsilon: Dec | None
    fixed_plan: Dec | None
    delta: Dec
    registry_attempts: int
    registry_epsilon: Dec | None
    told: int | None
    told_epsilon: Dec | None
    agrees: bool


@dataclass(frozen=True)
class Client:
    """One party's view of a registry; `registry` has all other calls.

    Raises, from every method: `AccordError` with the registry's code and hint.
    """

    registry: RegistryClient

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.registry.close()

    def runs(self) -> Listed[RunView]:
        """Runs that the caller is a party of, oldest first (`GET /v1/runs`)."""
        return Listed(RunView, self.registry.runs())

    def balances(self, dataset: str | None = None) -> Listed[BalanceRow]:
        """Spent, reserved, left of each cap on each dataset (`GET /v1/budgets/datasets`)."""
        return Listed(BalanceRow, self.registry.balances(dataset=dataset))

    def institutions(self) -> Listed[CombinedRow]:
        """What each institution's populations come to (`GET /v1/budgets/institutions`)."""
        return Listed(CombinedRow, self.registry.combined("institution"))

    def agreements(self) -> Listed[CombinedRow]:
        """What was spent under each agreement (`GET /v1/budgets/agreements`)."""
        return Listed(CombinedRow, self.registry.combined("agreement"))

    def budgets(self, run: str | None = None, dataset: str | None = None) -> Listed[BudgetRow]:
        """What each run has cost each dataset, and may still (`GET /v1/budgets`)."""
        return Listed(BudgetRow, self.registry.budgets(run=run, dataset=dataset))

    def rounds(self, run: str | None = None, dataset: str | None = None) -> Listed[SpendRow]:
        """Each charged attempt, and the run's cost after it (`GET /v1/budgets/rounds`)."""
        found: Listed[SpendRow] = Listed(SpendRow)
        after, size = 0, MAX_PAGE
        while size == MAX_PAGE:
            page = self.registry.spends(dataset=dataset, run=run, after=after)
            found += page
            after, size = (page[-1].sequence if page else after), len(page)
        return found

    def exceptions(self, run: str | None = None, code: str | None = None) -> Listed[ExceptionRow]:
        """Everything that does not agree, each with its records (`GET /v1/exceptions`)."""
        return Listed(ExceptionRow, self.registry.exceptions(run=run, code=code))

    def recompute(self, run: str) -> Listed[Recomputed]:
        """Verify a run's records and compute its epsilon here; nothing is taken on trust.

        Trusted is the agreement's hash: compare it with the one that was signed.

        Args:
            run: its id.

        Raises:
            VerificationError: a record does not hold; the code and message name it.
        """
        view = self.registry.run(run)
        verified = chain.fetch_run(self.registry.record, view.manifest_hash)
        rows = {row.dataset: row for row in self.registry.budgets(run=run)}
        spent = recompute(verified, self._records(run))
        return Listed(Recomputed, [_beside(run, one, rows[one.dataset]) for one in spent])

    def lineage(self, model: str) -> Lineage:
        """Verify where a model comes from, down to the agreement; nothing is taken on trust.

        Args:
            model: the run's id, its first or last characters, or the model's hash.

        Raises:
            VerificationError: a record does not hold; the code and message name it.
        """
        return trace(self.registry, model).lineage

    def _records(self, run: str) -> Iterable[Envelope]:
        for kind in (CONSENT, NODE_RECEIPT):
            yield from records_of(self.registry, kind, run)


def connect(url: str, token: str, ca: bytes | str | Path) -> Client:
    """Open a registry for reading.

    Args:
        url: `https://host:port`.
        token: the caller's bearer token; from the environment, never from a notebook.
        ca: the registry's CA certificate, PEM: the bytes, or the file's path.

    Returns:
        A client; use it in a `with` block, or close it.
    """
    pem = ca if isinstance(ca, bytes) else Path(ca).read_bytes()
    return Client(RegistryClient(url, pem, token))


def _beside(run: str, found: SiteSpending, row: BudgetRow) -> Recomputed:
    same = (found.attempts, found.epsilon) == (row.attempts, row.epsilon)
    less = row.told is not None and row.told < found.attempts
    return Recomputed.model_validate(
        asdict(found)
        | {
            "run": run,
            "registry_attempts": row.attempts,
            "registry_epsilon": row.epsilon,
            "told": row.told,
            "told_epsilon": row.told_epsilon,
            "agrees": same and not less and _as_told(found, row),
        }
    )


def _as_told(found: SiteSpending, row: BudgetRow) -> bool:
    """Whether a result of as many attempts says the same epsilon."""
    if row.told != found.attempts:
        return True  # nothing, or of more attempts: the registry's `recomputed` stands beside it
    return same_epsilon(row.told_epsilon, found.fixed_plan)
