"""The client's calls about datasets and their catalogue."""

from accord_common.api import dataset_schemas as d
from accord_common.api import schemas as s
from accord_common.api.calls import Calls


class DatasetCalls(Calls):
    """Part of `RegistryClient`; lists are complete."""

    def register_dataset(self, draft: s.DatasetDraft) -> s.DatasetView:
        """Register the caller's dataset; the same draft again changes nothing."""
        return self._post(s.DatasetView, "/v1/datasets", draft, again=True)

    def datasets(
        self, duo: str | None = None, party: str | None = None, column: str | None = None
    ) -> list[d.CatalogueView]:
        """Registered datasets by id, each with its newest entry.

        Args:
            duo: only those whose entry has this code.
            party: only this owner's.
            column: only those whose entry has a column of exactly this name.
        """
        query = {"duo": duo, "party": party, "column": column}
        return self._all(d.CatalogueView, "/v1/datasets", lambda item: item.id, query)

    def dataset(self, dataset: str) -> d.DatasetDetail:
        """One dataset: versions of its entry, and the caller's agreements and profiles of it."""
        return self._get(d.DatasetDetail, f"/v1/datasets/{dataset}")
