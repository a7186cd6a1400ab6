"""An exported ledger beside the receipts that its node posted: a missing end shows only there."""

import io
from dataclasses import replace

import pytest

from accord_common.envelope import MAX_ENVELOPE_BYTES
from accord_common.errors import FormatError, VerificationError
from accord_common.fields import new_id
from accord_common.privacy.accounting import ORDERS
from accord_common.privacy.audit import Exported, check_receipts, lines_of, read_export
from accord_common.privacy.events import NO_PREDECESSOR
from accord_common.privacy.rules import Rules
from accord_common.receipts import NodeReceipt
from tests.world import make_world


def test_every_receipt_of_the_node_must_name_an_entry_of_the_file() -> None:
    world = make_world(3)
    manifest = world.manifest(world.run_keys())
    mine, other = world.hospitals[:2]
    receipts = [world.node_receipt(mine, manifest, manifest.hash, number) for number in range(2)]
    entries = tuple(NodeReceipt.from_bytes(one.payload).ledger for one in receipts)
    exported = Exported(
        ledger=new_id(),
        party=mine.id,
        identity=mine.identity.public,
        node_key=mine.node.public,
        orders=ORDERS,
        rules=Rules({}, frozenset()),
        entries=entries,
        head=NO_PREDECESSOR,
    )
    strangers = world.node_receipt(other, manifest, manifest.hash, 0)
    assert check_receipts(exported, [*receipts, strangers]) == 2
    earlier = replace(exported, entries=entries[:1])
    with pytest.raises(VerificationError) as caught:
        check_receipts(earlier, receipts)
    assert caught.value.code == "export-behind" and "entry 1" in caught.value.message
    owed = entries[1].spend.model_copy(update={"run": receipts[1].hash})
    charged = entries[1].model_copy(update={"spend": owed})
    assert check_receipts(replace(exported, entries=(entries[0], charged)), receipts) == 2
    cheaper = charged.model_copy(
        update={"spend": owed.model_copy(update={"noise_multiplier": "1000"})}
    )
    with pytest.raises(VerificationError) as caught:
        check_receipts(replace(exported, entries=(entries[0], cheaper)), receipts)
    assert caught.value.code == "export-behind"


def test_a_line_without_an_end_is_read_no_further_than_lines_may_be() -> None:
    file = io.BytesIO(bytes(3 * MAX_ENVELOPE_BYTES))
    with pytest.raises(FormatError, match="line 1 is too long"):
        read_export(lines_of(file))
    assert file.tell() == MAX_ENVELOPE_BYTES + 2
