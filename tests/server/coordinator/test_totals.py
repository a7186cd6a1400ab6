"""What institutions come to together, where their agreements speak of different adjacencies."""

from decimal import Decimal

from accord_common.privacy.accounting import Tally
from accord_server.coordinator.totals import totals
from tests.world import make_world


def test_totals_over_both_adjacencies_are_priced_as_replace_one() -> None:
    agreement = make_world(3).agreement
    first, second = (dataset.population for dataset in agreement.datasets[:2])
    cheap, dear = (
        Tally(adjacency, (("1", "1", 4),)) for adjacency in ("add-remove", "replace-one")
    )
    mixed = totals({first: cheap, second: dear}, [agreement])
    alike = totals({first: dear, second: dear}, [agreement])
    assert mixed.adjacency == "replace-one"
    assert (mixed.disjoint, mixed.overlapping) == (alike.disjoint, alike.overlapping)
    figures = {one.population: one for one in mixed.populations}
    assert figures[first].adjacency == "add-remove"
    assert Decimal(figures[first].spent.filter or 0) < Decimal(figures[second].spent.filter or 0)
