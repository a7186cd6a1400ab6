"""Where an attempt stands, who is waited for, and what it needs to go on after a restart."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from accord_common.api.wire import WireEnvelope
from accord_common.errors import ProtocolError
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


@dataclass(slots=True, kw_only=True)
class Staged(ABC):
    """The stages of an attempt (`secagg.Attempt`): who may speak, and when too few are left."""

    stage: Stage = Stage.ADVERTISE
    _lost: set[str] = field(default_factory=set)
    _unmasked: bool = False

    @abstractmethod
    def _expected(self) -> tuple[Sequence[str], Mapping[str, object]]:
        """Who is to answer in the open stage, and who has."""

    @abstractmethod
    def _needed(self) -> int:
        """How many answers will do in the open stage."""

    @abstractmethod
    def _recoverable(self, holders: Collection[str]) -> bool:
        """Whether `holders` have enough shares of every secret that R4 asks for."""

    @property
    def missing(self) -> frozenset[str]:
        """Who has yet to answer in the open stage, without the lost; in R0 nobody is waited for."""
        expected, answered = self._expected()
        return frozenset(expected) - answered.keys() - self._lost

    def lose(self, party: str) -> None:
        """Wait no more for a node; what it has answered stays.

        Raises:
            ProtocolError: `small-cohort` once the open stage can no longer gather enough.
        """
        self._lost.add(party)
        _, answered = self._expected()
        if self.stage is Stage.ADVERTISE:
            return
        needed, left = self._needed(), {*answered, *self.missing}
        if len(left) < needed:
            raise self._small(len(left), needed)
        if self.stage is Stage.UNMASK and not self._recoverable(left):
            raise ProtocolError("small-cohort", f"without {party} too few share some secret")

    def _require(
        self,
        stage: Stage,
        party: str,
        members: Sequence[str] | Mapping[str, object] | None = None,
        answered: Mapping[str, object] | None = None,
    ) -> None:
        if self.stage is not stage or self._unmasked:
            raise ProtocolError(
                "wrong-stage", f"{party} speaks in {stage.name}, it is {self.stage.name}"
            )
        if members is not None and party not in members:
            raise ProtocolError("not-in-cohort", f"{party} is not in this stage's list")
        if answered is not None and party in answered:
            raise ProtocolError("repeated-message", f"{party} has answered in this stage")

    def _close(self, stage: Stage, count: int, needed: int) -> None:
        if self.stage is not stage:
            raise ProtocolError("wrong-stage", f"closing {stage.name} in {self.stage.name}")
        if count < needed:
            raise self._small(count, needed)
        self.stage = Stage(stage + 1)

    def _small(self, count: int, needed: int) -> ProtocolError:
        return ProtocolError(
            "small-cohort", f"{count} nodes in {self.stage.name}, {needed} are needed"
        )
