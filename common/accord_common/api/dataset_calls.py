"""The client's calls about datasets and their catalogue."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel

from accord_common.api import dataset_schemas as d
from accord_common.api import schemas as s

_Model = TypeVar("_Model", bound=BaseModel)
_Query = Mapping[str, str | int | float | None]


class DatasetCalls(ABC):
    """Part of `RegistryClient`; lists are complete."""

    @abstractmethod
    def _get(self, model: type[_Model], path: str) -> _Model: ...

    @abstractmethod
    def _post(
        self, model: type[_Model], path: str, body: BaseModel | None, *, again: bool = False
    ) -> _Model: ...

    @abstractmethod
    def _all(
        self,
        model: type[_Model],
        path: str,
        key: Callable[[_Model], str],
        query: _Query | None = None,
    ) -> list[_Model]: ...

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
