"""What of an error leaves a node: its own words, or a code and fixed words in their place.

Guarantees: of whatever a table, a file, a ledger, a limit or a task raises, only the codes in
`TOLD` leave, any other is `node-error`: no code that a row or a task could choose says anything.
"""

from accord_common import wire
from accord_common.errors import AccordError

SILENT = "accord-node status says why; only the institution's steward sees it"
TOLD = {  # code -> the words that leave in the place of an error's own
    "budget-exceeded": "the privacy budget of this site does not cover another attempt",
    "already-charged": SILENT,
    "base-missing": SILENT,
    "catalogue-stricter": SILENT,
    "dataset-changed": SILENT,
    "dataset-missing": SILENT,
    "disk-full": "this site's disk is too full for another attempt",
    "ledger-broken": SILENT,
    "ledger-unwritable": SILENT,
    "memory-short": "this site's memory is too small for another attempt",
    "no-cuda": SILENT,
    "outside-hours": "this site takes part at other hours",
    "round-decided": SILENT,
    "round-secrets-unwritable": SILENT,
    "state-unwritable": SILENT,
    "task-code-differs": "the task installed here is not the code that the manifest names",
}
NODE_ERROR = "node-error"


def told(error: AccordError, *, concealed: bool) -> wire.Refusal:
    """The refusal for an error; `concealed` where its words may tell of what stays here."""
    if not concealed:
        return wire.refusal(error)
    code = error.code if error.code in TOLD else NODE_ERROR
    return wire.Refusal(code=code, message=TOLD.get(code, SILENT))
