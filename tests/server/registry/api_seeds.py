"""Calls that succeed: each operation's, with what no generator finds, such as signatures.

A domain whose operations need more than the ids that lists show adds a function to `SEEDS`; it is
run once against the real application before requests are generated.
"""

from collections.abc import Callable
from pathlib import Path

from accord_common.agreement import Role
from accord_common.api.score_schemas import ScoreRequest
from accord_server.registry.oidc.endpoints import CALLBACK
from accord_server.registry.oidc.provider import Provider
from accord_server.registry.settings import Oidc
from tests.catalogued import entry
from tests.server.registry.persons import Browser, app_code, invite, join
from tests.server.registry.provider import CLIENT_ID, CLIENT_SECRET, back, serving_provider
from tests.server.registry.stack import Stack, complete, run_id
from tests.server.registry.test_keys import revocation
from tests.world import make_actor, model_of


def runs(stack: Stack) -> None:
    """One that is over, and one that goes on; with its lease, lines, and a request to stop."""
    world = stack.world
    coordinator, aggregator = stack.client(world.coordinator), stack.client(world.aggregator)
    keys = stack.offer()
    manifest = stack.start(keys)
    result = complete(stack, keys, manifest)
    coordinator.post(world.evaluation(manifest, result, model_of(2)))
    coordinator.get_blob(model_of(0))
    open_run = stack.start(stack.offer(), title="another")
    stack.accept(open_run)
    run = run_id(stack, open_run)
    aggregator.lease(run, "aggregator-1", 3600)
    aggregator.log(run, "info", "a line")
    aggregator.events(run)
    coordinator.stop(run, "enough")
    score = ScoreRequest(
        round=0, model=model_of(1), holdout="ab" * 32, rows=9, metrics={"auc": "0.9"}
    )
    coordinator.tell_score(coordinator.runs()[0].id, score)
    coordinator.check_run(world.agreement_hash, world.manifest_body(stack.offer()))


def parties(stack: Stack) -> None:
    """One that comes, is shut out, comes back, tells whom it trusts, and takes its key back."""
    coordinator = stack.client(stack.world.coordinator)
    role: Role = "data-holder"
    guest = make_actor("guest", role)
    delegation = guest.delegation()
    stack.world.delegations[guest.id] = delegation
    stack.join(guest, coordinator.invite(role, guest.name).code)
    stack.client(guest).tell_trust(["ab" * 32])
    coordinator.suspend(guest.id, "a telephone call")
    coordinator.readmit(guest.id)
    coordinator.partner(guest.id)
    stack.client().revoke(revocation(guest, delegation.hash))


def agreements(stack: Stack) -> None:
    """Datasets once more, and a proposal that lacks signatures."""
    stack.register_datasets()
    world = stack.world.next_version(title="Next")
    stack.client(world.coordinator).propose(world.partly_signed(world.coordinator))


def persons(stack: Stack) -> None:
    """Accounts from invitation to reset, second factors, sessions."""
    hospital = stack.world.hospitals[1]
    owner = join(stack, hospital, "owner", "seed-owner")
    made = invite(stack, hospital, "steward", "seed-steward")["person"]["id"]
    for method, path, body in (
        ("PUT", f"/v1/people/{made}/role", {"role": "owner"}),
        ("POST", f"/v1/people/{made}/disable", None),
        ("POST", f"/v1/people/{made}/enable", None),
        ("POST", f"/v1/people/{made}/reset", {"second_factor": True}),
    ):
        assert owner.call(method, path, body).is_success, path
    token = owner.call("POST", "/v1/tokens", {"name": "x", "scopes": ["read"], "days": 1}).json()
    assert owner.call("DELETE", f"/v1/tokens/{token['token']['id']}").is_success
    secret = owner.call("POST", "/v1/me/second-factor").json()["secret"]
    codes = owner.call("PUT", "/v1/me/second-factor", {"factor": app_code(secret)}).json()["codes"]
    owner.csrf = owner.call("GET", "/v1/me").json()["csrf"]
    assert owner.call("POST", "/v1/sessions/second-factor", {"factor": codes[0]}).is_success
    owner.csrf = owner.call("GET", "/v1/me").json()["csrf"]
    assert owner.call("POST", "/v1/me/second-factor/end", {"factor": codes[1]}).is_success
    password = {"present": "plum harbour kettle 94", "password": "violet anchor pillow 71"}
    assert owner.call("PUT", "/v1/me/password", password).is_success
    me = owner.call("GET", "/v1/me").json()
    owner.csrf = me["csrf"]
    assert owner.call("DELETE", f"/v1/sessions/{me['session']}").is_success


def provider(stack: Stack, folder: Path) -> None:
    """A sign-in with an OpenID provider."""
    certificates = stack.settings.ca.parent
    secret = folder / "secret"
    secret.write_text(CLIENT_SECRET)
    registry = stack.app.state.registry
    with serving_provider(certificates, stack.settings.url + CALLBACK) as served:
        oidc = Oidc(
            name="University",
            issuer=served.issuer,
            client_id=CLIENT_ID,
            client_secret=secret,
            ca=certificates / "ca.pem",
        )
        settings = stack.settings.model_copy(update={"oidc": oidc})
        object.__setattr__(registry, "settings", settings)
        object.__setattr__(registry, "provider", Provider(oidc, settings.url + CALLBACK))
        made = invite(stack, stack.world.hospitals[2], "owner", "seed-provider")
        browser = Browser(stack)
        began = browser.call("POST", "/v1/oidc/logins", {"code": made["code"]})
        answer = browser.call("GET", back(served.consent(began.json()["url"], "subject")))
        assert answer.is_success, answer.text
    object.__setattr__(registry, "settings", stack.settings)
    object.__setattr__(registry, "provider", None)


def log(stack: Stack) -> None:
    """Proofs for a record that is there."""
    client = stack.client(stack.world.hospitals[0])
    size = client.records()[-1].sequence
    client.tree.inclusion(stack.world.agreement_hash, size)


def datasets(stack: Stack) -> None:
    """A dataset that is declared, and read by its id."""
    holder = stack.world.hospitals[0]
    client = stack.client(holder)
    client.post(entry(stack.world, holder))
    client.dataset(holder.dataset)


def words(stack: Stack) -> None:
    """What people say, and take back; evidence taken along and checked."""
    office = join(stack, stack.world.coordinator, "coordinator", "seed-office")
    run = stack.client(stack.world.coordinator).runs()[0]
    for path in (f"/v1/runs/{run.id}/comments", f"/v1/agreements/{run.agreement}/comments"):
        made = office.call("POST", path, {"body": "a word"}).json()["id"]
        assert office.call("GET", path).is_success
        assert office.call("DELETE", f"/v1/comments/{made}").is_success
    for _ in range(2):
        body = {"title": "News", "body": "a word"}
        made = office.call("POST", "/v1/announcements", body).json()["id"]
    assert office.call("DELETE", f"/v1/announcements/{made}").is_success
    line = office.call("GET", "/v1/log/checkpoint.jsonl").content
    headers = {"Content-Type": "application/octet-stream"}
    assert office.send("/v1/log/check", line, headers).is_success
    assert office.call("GET", f"/v1/bundles?run={run.id}").is_success


SEEDS: tuple[Callable[[Stack], None], ...] = (
    runs,
    parties,
    agreements,
    persons,
    log,
    datasets,
    words,
)
