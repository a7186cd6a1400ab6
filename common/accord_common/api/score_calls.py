"""The client's calls about metrics by round."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel

from accord_common.api.schemas import MAX_PAGE
from accord_common.api.score_schemas import ScoreRequest, ScoreView

_Model = TypeVar("_Model", bound=BaseModel)
_Query = Mapping[str, str | int | float | None]


class ScoreCalls(ABC):
    """Part of `RegistryClient`."""

    @abstractmethod
    def _page(
        self, model: type[_Model], path: str, query: _Query, *, wait_s: float = 0.0
    ) -> list[_Model]: ...

    @abstractmethod
    def _post(
        self, model: type[_Model], path: str, body: BaseModel | None, *, again: bool = False
    ) -> _Model: ...

    def tell_score(self, run: str, score: ScoreRequest) -> ScoreView:
        """Tell a round's metrics; another one of the same round replaces it."""
        return self._post(ScoreView, f"/v1/runs/{run}/scores", score, again=True)

    def scores(self, run: str) -> list[ScoreView]:
        """Every round's metrics, in order."""
        found: list[ScoreView] = []
        while True:
            query: _Query = {
                "after": found[-1].round + 1 if found else 0,
                "limit": MAX_PAGE,
            }
            page = self._page(ScoreView, f"/v1/runs/{run}/scores", query)
            found += page
            if len(page) < MAX_PAGE:
                return found
