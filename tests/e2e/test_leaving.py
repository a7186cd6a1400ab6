"""Everything that leaves a node is charged to its ledger or follows from public constants.

Four sites that differ in what is private (how many rows, which values and labels) and in nothing
that is public. Every byte that any of their processes sends is recorded, before TLS, from enrolment
to the last run; every field of it is declared in `recording.fields`. What is not random, a time or
an own name must be the same at all sites, and so must every size. Four runs: a plain one; one
without a site whose file changed; one that a site leaves at its cap; one that ends so.

Not covered: when something is sent. That a site refuses at all is one bit that it says.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from accord_client.consent import spend_for
from accord_common.home import Home
from accord_server.coordinator import desk
from accord_server.demo.processes import CommandFailed
from tests import federations
from tests.e2e.capping import at_node, cap_after_consent, shown
from tests.e2e.killing import frozen
from tests.known import installing
from tests.known.sums import check_sums, tables_of
from tests.recording.fields import (
    ENDPOINTS,
    FRAME,
    HEADERS,
    POLLS,
    QUERIES,
    endpoint_of,
    field_of,
    rule_of,
)
from tests.recording.knowing import Recorded, recording
from tests.recording.reading import Request, body_of, envelopes, leaves

FINDS_CUDA = "subprocess.Popen '/sbin/ldconfig'"  # what torch's CUDA build starts when imported
PLAIN, CHANGED, CAPPED, NEEDED = range(4)  # runs
BROKEN, AT_ITS_CAP, LAST = 2, 3, 1  # the site that leaves each of the later ones
ROUNDS, MANY = 2, 5
PAID = 2  # of MANY, by the site at its cap
OVER_BUDGET, OTHER_FILE = "budget-exceeded", "dataset-changed"


def private_tables() -> list[str]:
    """A table; one row more; every label another; a third of the rows, at the edge."""
    header, *rows = federations.synthetic_table(0, rows=120).splitlines()
    flipped = [row[:-1] + str(1 - int(row[-1])) for row in rows]
    edge = [",".join(["1"] * federations.FEATURES + ["1"])] * 37
    tables = (rows, [*rows, rows[0]], flipped, edge)
    return ["\n".join([header, *table]) + "\n" for table in tables]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with recording(tmp_path_factory.mktemp("leaving") / "federation", private_tables()) as found:
        yield found


def start(recorded: Recorded, **changes: Any) -> str:
    federation = recorded.federation
    recorded.runs.append(federation.start_run(federations.plan(federation, **changes)))
    return recorded.runs[-1]


def start_capped(recorded: Recorded, site: int, **changes: Any) -> str:
    """Start a run of MANY rounds that a site accepts; then its steward allows PAID attempts."""
    federation = recorded.federation
    with frozen(federation.services.pid(federation.aggregator)):
        run = start(recorded, rounds=MANY, **changes)
        cap_after_consent(federation, federation.nodes[site], run, PAID)
    return run


def three(recorded: Recorded) -> list[str]:
    """All but the site at its cap; fewer than these make no sum."""
    return [f"{node.name}/tumours" for node in recorded.federation.nodes[:AT_ITS_CAP]]


def ended(recorded: Recorded) -> dict[str, Any]:
    return federations.follow(recorded.federation, recorded.runs[-1])[-1]


def test_a_run_of_sites_that_differ_in_private_completes(recorded: Recorded) -> None:
    start(recorded, rounds=ROUNDS)
    end = ended(recorded)
    assert (end["state"], end["rounds"], end["refused"]) == ("completed", ROUNDS, {})


def test_a_changed_file_is_told_without_any_of_it(recorded: Recorded) -> None:
    federation, node = recorded.federation, recorded.federation.nodes[BROKEN]
    table = node.home / "tumours.csv"
    text, stat = table.read_text(), table.stat()
    table.write_text(text + "SECRET-CELL,17\n")
    with pytest.raises(CommandFailed):
        federation.at(node, "dataset", "update", "tumours")
    start(recorded, rounds=ROUNDS)
    end = ended(recorded)
    refused = {node.name: {"round": 1, "code": OTHER_FILE}}
    assert (end["state"], end["rounds"], end["refused"]) == ("completed", ROUNDS, refused)
    table.write_text(text)
    os.utime(table, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    everything = b"".join(path.read_bytes() for path in recorded.said[BROKEN].glob("*.sent"))
    assert b"SECRET" not in everything and b"tumours.csv" not in everything
    assert str(federation.folder).encode() not in everything


def test_a_run_goes_on_without_a_node_whose_cap_is_lowered(recorded: Recorded) -> None:
    federation, node = recorded.federation, recorded.federation.nodes[AT_ITS_CAP]
    run = start_capped(recorded, AT_ITS_CAP, task=installing.TASK)
    updates = federations.follow(federation, run)
    assert (updates[-1]["state"], updates[-1]["rounds"]) == ("completed", MANY), updates[-1]
    assert updates[-1]["refused"] == {node.name: {"round": PAID + 1, "code": OVER_BUDGET}}
    view, rounds, text = shown(federation, run)
    refusals = {item.party: item.refusal for item in view.consents if item.refusal is not None}
    party = recorded.home(AT_ITS_CAP).profile.party
    assert {who: (at.round, at.code) for who, at in refusals.items()} == {
        party: (PAID, OVER_BUDGET)
    }
    told = [(party in attempt.cohort, attempt.refused) for attempt in rounds]
    left = MANY - PAID
    assert told == [(True, {})] * PAID + [(False, {party: OVER_BUDGET})] * left
    assert f"not from round {PAID + 1} [{OVER_BUDGET}]" in text
    told_here = at_node(federation, node, run)
    assert (told_here["round"], told_here["code"]) == (PAID, OVER_BUDGET)
    assert "would reach" in told_here["reason"]  # figures: for the steward alone
    assert "would reach" not in str(updates) + text
    both = 2 * ROUNDS  # the runs before; one of them without the site whose file had changed
    assert [len(recorded.entries(site)) for site in range(4)] == [
        both + MANY,
        both + MANY,
        ROUNDS + MANY,
        both + PAID,
    ]


def test_a_run_that_needs_a_node_at_its_cap_ends_and_says_why(recorded: Recorded) -> None:
    federation, node = recorded.federation, recorded.federation.nodes[LAST]
    before = [len(recorded.entries(site)) for site in range(AT_ITS_CAP)]
    run = start_capped(recorded, LAST, datasets=three(recorded))
    end = ended(recorded)
    assert (end["state"], end["code"], end["rounds"]) == ("failed", "too-few-nodes", PAID), end
    assert node.name in end["cause"] and f"[{OVER_BUDGET}]" in end["cause"]
    assert end["refused"] == {node.name: {"round": PAID + 1, "code": OVER_BUDGET}}
    # It said so before the round: nobody was charged for an attempt that could not succeed.
    after = [len(recorded.entries(site)) for site in range(AT_ITS_CAP)]
    assert after == [count + PAID for count in before]
    view, _, text = shown(federation, run)
    assert (view.state, view.code) == ("failed", "too-few-nodes")
    assert node.name in view.cause and f"[{OVER_BUDGET}]" in view.cause
    assert f"not from round {PAID + 1} [{OVER_BUDGET}]" in text
    assert at_node(federation, node, run)["code"] == OVER_BUDGET
    federation.at(recorded.federation.nodes[0], "check")


def test_every_field_of_every_request_is_declared_and_holds(recorded: Recorded) -> None:
    for site, sent in enumerate(recorded.requests):
        known = recorded.known(site)
        public = known.hashes | known.named["profile.party"]
        for request in sent:
            endpoint, ids = endpoint_of(request.method, request.path)
            assert endpoint in ENDPOINTS, f"nobody has declared {endpoint}"
            assert all(found in public or found.encode() in known.heard for found in ids), endpoint
            for name, value in request.query:
                assert QUERIES[name](value, known), (endpoint, name, value)
            for name, value in request.headers:
                if name == "content-length":
                    assert int(value) == len(request.body)
                else:
                    assert HEADERS[name](value, known), (endpoint, name, value)
            for path, value in leaves(request):
                assert field_of(path).split(".")[0] in ENDPOINTS[endpoint], (endpoint, path)
                assert rule_of(path).holds(value, known), (site, endpoint, path, value)


def test_sites_that_differ_in_private_alone_send_the_same(recorded: Recorded) -> None:
    plain = next(
        hash_
        for hash_, manifest in recorded.known(0).manifests.items()
        if manifest.id == recorded.runs[PLAIN]
    )
    first, *others = (_shapes(_of_run(sent, plain)) for sent in recorded.requests)
    assert sum(first.values()) > 20  # joining, signing, two rounds
    for site, found in enumerate(others, 1):
        assert found == first, (site, list((found - first) + (first - found))[:3])


def _of_run(sent: list[Request], manifest: str) -> list[Request]:
    """What belongs to this run or to none; but polls, whose number is a matter of timing."""
    named: dict[str, set[Any]] = {}  # manifests by connection, and by request
    for request in sent:
        of_request = {
            value
            for path, value in leaves(request)
            if path.split(".")[-1] == "manifest" and "." in path
        }
        named.setdefault(request.connection, set()).update(of_request)
        named[request.name] = of_request
    return [
        request
        for request in sent
        if endpoint_of(request.method, request.path)[0] not in POLLS
        and named[request.connection if "/fleet/" in request.path else request.name] <= {manifest}
    ]


def _shapes(sent: list[Request]) -> Counter[Any]:
    """How often what was sent, but for a run's last `done`, which its end may cut off.

    Frames are counted once: each has its message, which is counted.
    """
    found: Counter[Any] = Counter()
    for request in sent:
        names = {path.split(".")[0] for path, _ in leaves(request)}
        if names and names <= FRAME:
            found[_shape(request)] = 1
        elif "done" not in names:
            found[_shape(request)] += 1
    return found


def _shape(request: Request) -> tuple[Any, ...]:
    """What is left of a request without what is random, a time, or an own name."""
    endpoint, _ = endpoint_of(request.method, request.path)
    fields: Counter[Any] = Counter()
    for path, value in leaves(request):
        name, rule = field_of(path), rule_of(path)
        length = len(value) if isinstance(value, str | bytes) else 0
        shown = value if rule.label in ("public", "place") and not rule.own else None
        fields[name, shown, length if rule.fixed else None] += 1
    headers = tuple(name for name, _ in request.headers)
    return endpoint, headers, frozenset(fields.items())


def test_what_is_released_is_charged_and_a_charge_follows_from_the_records(
    recorded: Recorded,
) -> None:
    for site, sent in enumerate(recorded.requests):
        party, manifests = recorded.home(site).profile.party, recorded.known(site).manifests
        entries = [entry for entry, _ in recorded.entries(site)]
        for spend in (entry.spend for entry in entries):
            assert spend == spend_for(
                recorded.agreement,
                manifests[spend.run],
                spend.run,
                party,
                round_=spend.round,
                attempt=spend.attempt,
            )
        found = {envelope.hash: envelope for envelope in envelopes(sent)}
        uploads = {hash_: body_of(e) for hash_, e in found.items() if e.kind == "upload"}
        receipts = [body_of(e) for e in found.values() if e.kind == "node-receipt"]
        receipts.sort(key=lambda body: body["ledger"]["sequence"])  # over several connections
        chunks = sum(path == "chunk" for request in sent for path, _ in leaves(request))
        assert len(uploads) == len(receipts) == chunks == len(entries)
        for entry, receipt in zip(entries, receipts, strict=True):
            assert receipt["ledger"] == entry.to_json()
            upload, spend = uploads[receipt["upload"]], entry.spend
            assert (upload["manifest"], upload["round"], upload["attempt"]) == (
                spend.run,
                spend.round,
                spend.attempt,
            )


def test_masked_words_unmask_to_the_updates_and_to_nothing_else(recorded: Recorded) -> None:
    federation = recorded.federation
    with Home.open(federation.coordinator.home / "accord").registry() as client:
        run = desk.verified_run(client, client.run(recorded.runs[CAPPED]))
        result = desk.verified_result(client, run)
        initial = client.get_blob(run.manifest.initial_model)
    assert result is not None and len(result.receipts) == MANY
    check_sums(run.manifest, initial, result.receipts, tables_of(federation))


def test_nodes_speak_to_registry_and_aggregator_alone_and_start_nothing(
    recorded: Recorded,
) -> None:
    for folder in recorded.said:
        events = [line for p in folder.glob("*.events") for line in p.read_text().splitlines()]
        lines = [line for line in events if line != FINDS_CUDA]
        assert {line.split(" ")[0] for line in lines} == {"socket.connect", "socket.getaddrinfo"}
        connected = {line for line in lines if line.startswith("socket.connect ")}
        assert len(connected) == 2, connected  # the registry, the aggregator
        assert {path.stem.split("-")[2] for path in folder.glob("*.sent")} == {
            line.rstrip(")").split(" ")[-1] for line in connected
        }


def test_a_field_that_nobody_declared_is_found(recorded: Recorded) -> None:
    for path in ("upload.rows", "node-receipt.batch", "consent.path", "loss"):
        with pytest.raises(AssertionError, match="nobody has declared"):
            rule_of(path)
    known = recorded.known(0)
    for path, value in (
        ("clientapp_runtime_list", 0.25),
        ("size", 120),
        ("node-receipt.ledger.spend.size", 120),
        ("consent.ledger_head", "ab" * 32),  # of what nobody knows: of a table, say
        ("upload.chunks", 2),
        ("upload.words", 12),
        ("chunk", bytes(61)),
        ("shares.sealed.*", "00" * 83),
        ("refusal.code", "too-few-rows"),
        ("update.next.message", "epsilon 0.49 is spent"),
    ):
        assert not rule_of(path).holds(value, known), path
