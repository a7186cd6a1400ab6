"""The client's calls about metrics by round."""

from accord_common.api.calls import Calls
from accord_common.api.score_schemas import ScoreRequest, ScoreView


class ScoreCalls(Calls):
    """Part of `RegistryClient`."""

    def tell_score(self, run: str, score: ScoreRequest) -> ScoreView:
        """Tell a round's metrics; another one of the same round replaces it."""
        return self._post(ScoreView, f"/v1/runs/{run}/scores", score, again=True)

    def scores(self, run: str) -> list[ScoreView]:
        """Every round's metrics, in order."""
        path = f"/v1/runs/{run}/scores"
        return self._counted(ScoreView, path, lambda found: found[-1].round + 1 if found else 0)
