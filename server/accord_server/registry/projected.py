"""Every table that follows from `records`, in an order in which rows may be written."""

from accord_server.registry import tables
from accord_server.registry.agreements.tables import HaltRow
from accord_server.registry.budgets.tables import BUDGETS
from accord_server.registry.datasets.tables import CATALOGUE

PROJECTIONS: tuple[type[tables.Base], ...] = (
    *tables.PROJECTIONS,
    HaltRow,
    *BUDGETS,
    *CATALOGUE,
)
