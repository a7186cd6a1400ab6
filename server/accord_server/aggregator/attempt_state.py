"""Where an attempt stands, and what it needs to go on after a restart."""

from enum import IntEnum

from accord_common.api.wire import WireEnvelope
from accord_common.fields import Hash, Id, Record


class Stage(IntEnum):
    """Which messages are taken now."""

    ADVERTISE = 0
    SHARE = 1
    UPLOAD = 2
    CONFIRM = 3
    UNMASK = 4


class Suspended(Record):
    """An attempt between R2 and R3: U1 as advertised, U2, U3 with upload hashes, h_r."""

    cohort: list[WireEnvelope]
    sharers: list[Id]
    uploads: dict[Id, Hash]
    model: Hash
