"""Every table that follows from `records`, in an order in which rows may be written."""

from accord_server.registry import tables
from accord_server.registry.budgets.tables import BUDGETS

PROJECTIONS: tuple[type[tables.Base], ...] = (*tables.PROJECTIONS, *BUDGETS)
