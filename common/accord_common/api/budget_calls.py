"""The client's calls about budgets and exceptions."""

from accord_common.api import budget_schemas as b
from accord_common.api.calls import Calls


class BudgetCalls(Calls):
    """Part of `RegistryClient`; lists are complete."""

    def budgets(
        self,
        dataset: str | None = None,
        run: str | None = None,
        party: str | None = None,
        agreement: str | None = None,
    ) -> list[b.BudgetRow]:
        """What each run has cost each dataset, and may still, by run and dataset."""
        query = {"dataset": dataset, "run": run, "party": party, "agreement": agreement}
        return self._all(b.BudgetRow, "/v1/budgets", lambda row: f"{row.run}.{row.dataset}", query)

    def balances(
        self, dataset: str | None = None, party: str | None = None, agreement: str | None = None
    ) -> list[b.BalanceRow]:
        """What each cap has left, by dataset and agreement."""
        query = {"dataset": dataset, "party": party, "agreement": agreement}
        return self._all(
            b.BalanceRow,
            "/v1/budgets/datasets",
            lambda row: f"{row.dataset}.{row.agreement}",
            query,
        )

    def combined(self, by: b.Grouping) -> list[b.CombinedRow]:
        """What each institution, agreement or run comes to, by id."""
        return self._all(b.CombinedRow, f"/v1/budgets/{by}s", lambda row: row.id)

    def spends(
        self,
        dataset: str | None = None,
        run: str | None = None,
        after: int = 0,
        limit: int = 500,
    ) -> list[b.SpendRow]:
        """One page of charged attempts behind sequence `after`, in the registry's order."""
        query = {"dataset": dataset, "run": run, "after": after, "limit": limit}
        return self._page(b.SpendRow, "/v1/budgets/rounds", query)

    def exceptions(
        self,
        code: str | None = None,
        run: str | None = None,
        party: str | None = None,
        dataset: str | None = None,
    ) -> list[b.ExceptionRow]:
        """Everything that does not agree: what records show, oldest first, then what lasts."""
        query = {"code": code, "run": run, "party": party, "dataset": dataset}
        return self._all(b.ExceptionRow, "/v1/exceptions", lambda row: row.id, query)
