"""What an attempt needs to go on after a restart, once its masked sum is on disk."""

from accord_common.api.wire import WireEnvelope
from accord_common.fields import Hash, Id, Record


class Suspended(Record):
    """An attempt between R2 and R3: U1 as advertised, U2, U3 with upload hashes, h_r."""

    cohort: list[WireEnvelope]
    sharers: list[Id]
    uploads: dict[Id, Hash]
    model: Hash
