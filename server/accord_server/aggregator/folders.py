"""What each run has on the aggregator's disk, and who brings it to the registry.

Guarantees: a folder that is open has its courier; one that holds anything undelivered is opened at
the start; one that is over and delivered is let go.
"""

import os
from dataclasses import dataclass, field

from accord_common.api.client import RegistryClient
from accord_common.bulk import Body
from accord_common.files import put_in_place
from accord_common.home import Home
from accord_server.aggregator.checkpoints import Checkpoints, open_verified
from accord_server.aggregator.journal import Concluded, Journal
from accord_server.aggregator.leasing import Fence
from accord_server.aggregator.registry_client import Courier

GOODBYE_S = 3.0  # what a courier may still deliver after SIGTERM; the rest goes out next time
_FOLDER = "runs"


class RunFolder:
    """One run's journal, checkpoints and fence, with the courier at work."""

    def __init__(self, home: Home, client: RegistryClient, run: str) -> None:
        self.path = home.path / _FOLDER / run
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.journal = Journal(self.path / "journal")
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.fence = Fence(self.path / "fence")
        self.courier = Courier(client, run, self.journal, self.checkpoints, self.fence)
        self._client = client

    @property
    def delivered(self) -> bool:
        """Whether the registry has had all there is."""
        return self.journal.cursor == self.journal.size

    def result_at(self) -> int | None:
        """Where in the journal the run's result begins; None while there is none."""
        before = 0
        for entry, behind in self.journal.read():
            if isinstance(entry, Concluded):
                return before
            before = behind
        return None

    def initial(self, model: str) -> Body:
        """The initial model, fetched once."""
        path = self.path / "initial.f32"
        if (found := open_verified(path, model)) is not None:
            return found
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            for piece in self._client.blob(model):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(part, path)
        body = open_verified(path, model)
        assert body is not None  # `blob` verified it
        return body


@dataclass(slots=True)
class Folders:
    """Those that are open, by run."""

    home: Home
    client: RegistryClient
    open: dict[str, RunFolder] = field(default_factory=dict)

    def resume(self) -> None:
        """Open every folder of which something is still to be delivered."""
        runs = self.home.path / _FOLDER
        runs.mkdir(mode=0o700, exist_ok=True)
        for path in runs.iterdir():
            with Journal(path / "journal") as journal:
                behind = journal.cursor < journal.size
            if behind:
                self.of(path.name)

    def of(self, run: str) -> RunFolder:
        """A run's folder, made where it is missing."""
        if run not in self.open:
            self.open[run] = RunFolder(self.home, self.client, run)
        return self.open[run]

    def redeliver(self, run: str, start: int) -> None:
        """Have a run's courier begin again at a place in its journal."""
        folder = self.open.pop(run)
        folder.courier.stop(GOODBYE_S)
        folder.journal.delivered(start)
        self.of(run)

    def tidy(self, over: set[str]) -> None:
        """Let go of runs that are over and delivered."""
        for run in [run for run in over if run in self.open]:
            if self.open[run].courier.done:
                self.open.pop(run).journal.close()

    def stop(self) -> None:
        """Deliver what still can be, soon."""
        for folder in self.open.values():
            folder.courier.stop(GOODBYE_S)
