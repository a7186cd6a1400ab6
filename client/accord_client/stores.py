"""Everything that one node keeps, opened together: keys, agreements, tables, ledger, state, outbox.

    datasets/ agreements/                what the steward registered and signed
    withdrawals/ suspensions/ leaving/   what ended or halted agreements (`halts`)
    ledger.db node.db outbox.jsonl       what was spent, decided and sent
    rounds.db                            what the present round must not forget, sealed
    heads.db evidence/                   what was seen of the registry's log, and of forks of it
    bases/                               public weights that runs adapt
    logs/ node.lock                      the daemon's

Guarantees: the ledger is made once, with the folder; opening never makes another.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from accord_client import heads, outbox, rounds, state
from accord_client.agreements import Agreements
from accord_client.bases import Bases
from accord_client.datasets import Datasets
from accord_client.heads import Heads
from accord_client.ledger import Ledger
from accord_client.outbox import Outbox
from accord_client.rounds import Rounds
from accord_client.state import State
from accord_common.home import Home
from accord_common.identity import SigningKey

LEDGER_FILE = "ledger.db"


@dataclass(frozen=True, slots=True)
class Stores:
    """One node's opened folder. Any thread may use it.

    Attributes:
        key: signs whatever is written from now on.
        keys: public keys that may have signed what is there, `key`'s among them.
    """

    home: Home
    key: SigningKey
    keys: frozenset[str]
    agreements: Agreements
    datasets: Datasets
    state: State
    ledger: Ledger
    outbox: Outbox
    rounds: Rounds
    heads: Heads
    bases: Bases

    @property
    def party(self) -> str:
        """This institution's id."""
        return self.home.profile.party


@contextmanager
def open_stores(home: Home) -> Iterator[Stores]:
    """Open everything, and close it again.

    Raises:
        NotFoundError: `no-ledger`.
        VerificationError: `ledger-broken`.
    """
    key = home.node_key()
    with ExitStack() as stack:
        ledger = Ledger.open(home.path / LEDGER_FILE, key)
        stack.callback(ledger.close)
        memory = State(home.path / state.FILE_NAME)
        stack.callback(memory.close)
        secrets = Rounds(home.path / rounds.FILE_NAME, key)
        stack.callback(secrets.close)
        seen = Heads(home.path / heads.FILE_NAME)
        stack.callback(seen.close)
        yield Stores(
            home=home,
            key=key,
            keys=home.node_keys(),
            agreements=Agreements.of(home),
            datasets=Datasets.of(home.path),
            state=memory,
            ledger=ledger,
            outbox=Outbox(home.path / outbox.FILE_NAME, key),
            rounds=secrets,
            heads=seen,
            bases=Bases.of(home.path),
        )
