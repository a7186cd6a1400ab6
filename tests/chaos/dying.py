"""The named steps of a run, and the hook that makes a process die at one of them.

As `sitecustomize` of a process (see `ordering`), this file is run before anything else. It waits
for the modules that STEPS names, and puts itself before or behind the function with which a step
begins or ends. A process that comes to the step which the file ORDER names removes that file and
sends itself the signal that stands there too: SIGKILL, or SIGSTOP. Nothing else changes, and the
product knows nothing of it.
"""

import asyncio
import functools
import importlib.abc
import importlib.machinery
import json
import os
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ORDER = "order"  # beside this file

# process | step | whether the newest attempt has cost the node that dies or, where another process
# does, all of them (empty: chance decides) | where it dies

_CONSENT = """
node       | its consent on disk, not posted   |     | after state:State.note
registry   | a consent, not committed          |     | after records.append of consent
registry   | a lease, not committed            |     | after runs.service:lease
aggregator | the lease taken, nothing sent     |     | after leasing:Lease.__init__
"""
_ROUND = """
node       | asked to train, before the charge | no  | before ledger:Ledger.charge
node       | charged, before training          | yes | after ledger:Ledger.charge
node       | trained, before masking           | yes | after contribution:Contribution.words
node       | masked, before the upload         | yes | before link:FleetLink.reply of update
node       | uploaded, before the confirmation | yes | before session:Session._exchange of confirm
node       | confirmed, before it is sent      | yes | before link:FleetLink.reply of confirmation
node       | asked to unmask                   | yes | before session:Session._exchange of unmask
node       | unmasked                          |     | after link:FleetLink.reply of unmasking
node       | a receipt posted, still queued    |     | before state:State.posted
aggregator | cohort fixed                      |     | after secagg:Attempt.close_cohort
aggregator | round opened, nothing sent        | no  | after chronicle:Chronicle.open
aggregator | first upload folded               |     | after secagg:Attempt.fold
aggregator | sum on disk, R4 not decided       | yes | after spool:Spool.write
aggregator | R4 decided, nobody asked          | yes | after chronicle:Chronicle.unmask
aggregator | unmasked, before the checkpoint   | yes | before checkpoints:Checkpoints.save
aggregator | checkpoint on disk, no receipt    | yes | before chronicle:Chronicle.complete
aggregator | receipt on disk, not delivered    | yes | after chronicle:Chronicle.complete
aggregator | receipt delivered, not noted      |     | before journal:Journal.delivered
registry   | a node's receipt, not committed   |     | after records.append of node-receipt
registry   | a round's receipt, not committed  |     | after records.append of aggregator-receipt
registry   | a record committed, not answered  |     | before changes:Changes.announce
registry   | a model on disk, not committed    |     | after blobs.repository:write
"""
_END = """
aggregator | rounds over, before the result    |     | before chronicle:Chronicle.conclude
aggregator | result on disk, nobody told       |     | after chronicle:Chronicle.conclude
registry   | the result, not committed         |     | after records.append of result
"""
_FINISH = """
node       | told of the end, not on disk      |     | before session:Session._finish
node       | end on disk, secrets not erased   |     | before rounds:Rounds.erase
"""
_PACKAGES = {
    "node": "accord_client",
    "aggregator": "accord_server.aggregator",
    "registry": "accord_server.registry",
}


@dataclass(frozen=True)
class Step:
    """A moment in the life of a process: `before` a function begins, or `after` it ended well."""

    process: str
    name: str
    when: str
    module: str
    spot: str
    about: str
    charged: bool | None

    def __str__(self) -> str:
        return f"{self.process}: {self.name}"


def _parse(table: str) -> tuple[Step, ...]:
    steps = []
    for row in table.strip().splitlines():
        process, name, charged, where = (cell.strip() for cell in row.split("|"))
        when, place, about = [*where.replace(" of ", " ").split(), ""][:3]
        module, _, spot = place.partition(":")
        spot = spot or module.rpartition(".")[2]
        module = f"{_PACKAGES[process]}.{module}"
        cost = {"yes": True, "no": False, "": None}[charged]
        steps.append(Step(process, name, when, module, spot, about, cost))
    return tuple(steps)


CONSENT = _parse(_CONSENT)  # before the first round, in the order in which a run comes to them
ROUND = _parse(_ROUND)  # in any round, in any order
END = _parse(_END)  # when the rounds are over, in this order
FINISH = _parse(_FINISH)  # while the nodes are told: each at a node of its own
STEPS = (*CONSENT, *ROUND, *END, *FINISH)


def _subject(arguments: Sequence[Any]) -> str:
    """The type of the message, or the kind of the record, that a call is about."""
    for argument in arguments:
        if isinstance(argument, bytes):
            return str(json.loads(argument)["type"])
        if hasattr(argument, "envelope"):
            return str(argument.envelope.kind)
        if isinstance(getattr(argument, "type", None), str):
            return str(argument.type)
    return ""


def _guarded(function: Any, steps: Sequence[Step], order: str) -> Any:
    """The function, with its steps before and behind it."""

    def reach(when: str, arguments: tuple[Any, ...]) -> None:
        try:
            with open(order) as file:
                number, wanted = file.read().split(" ", 1)
        except FileNotFoundError:
            return
        for step in steps:
            if (step.when, str(step)) == (when, wanted):
                if step.about in ("", _subject(arguments)):
                    os.remove(order)
                    os.kill(os.getpid(), int(number))

    if asyncio.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*arguments: Any, **named: Any) -> Any:
            reach("before", arguments)
            result = await function(*arguments, **named)
            reach("after", arguments)
            return result

        return awaited

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        reach("before", arguments)
        result = function(*arguments, **named)
        reach("after", arguments)
        return result

    return called


class _Finder(importlib.abc.MetaPathFinder):
    """Puts the steps into the modules that have them, as soon as they are imported."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._modules = {step.module for step in STEPS}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None and spec.loader is not None, fullname
        execute = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            execute(module)
            self._arm(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # this spec's alone
        return spec

    def _arm(self, module: types.ModuleType) -> None:
        steps = [step for step in STEPS if step.module == module.__name__]
        for spot in {step.spot for step in steps}:
            owner, _, name = spot.rpartition(".")
            holder = getattr(module, owner) if owner else module
            here = [step for step in steps if step.spot == spot]
            setattr(holder, name, _guarded(getattr(holder, name), here, self._order))


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, _Finder(os.path.join(os.path.dirname(__file__), ORDER)))
