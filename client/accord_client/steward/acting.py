"""What a steward does on the page, by the functions that the console's verbs call.

Guarantees: each change is the verb's: the same checks, the same files, the same signatures; a run
is answered only as the manifest that was shown; an agreement is signed only by its whole hash,
typed or pasted by the steward; a passphrase is used once and kept nowhere. Bodies are decoded
strictly, and an error never repeats what they hold.
"""

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from accord_client import halts, leaving, own_caps
from accord_client.agreements import Agreements
from accord_client.answering import look_at, settle
from accord_client.consent import Verdict
from accord_client.deciding import STEWARD_REFUSED
from accord_client.leaving import Step
from accord_client.signing import propose, sign_proposed
from accord_client.steward.node import Node
from accord_common.errors import ConflictError, FormatError, PolicyError, UsageError
from accord_common.fields import Hash, Text
from accord_common.home import Home

Yes = Literal["yes"]


class Form(BaseModel):
    """What a page sends."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Enter(Form):
    """The code of a link."""

    code: SecretStr = SecretStr("")


class Approve(Form):
    """`manifest` is the record that was shown; `unprotected` where it is without privacy."""

    manifest: Hash
    unprotected: Yes | None = None


class Refuse(Form):
    """Why; every party of the run can read it."""

    manifest: Hash
    reason: Text


class Sign(Form):
    """The whole hash, and the passphrase of the institution's key."""

    hash: str = ""
    passphrase: SecretStr


class Say(Form):
    """A withdrawal, a suspension or its end."""

    reason: Text = ""
    passphrase: SecretStr
    sure: Yes | None = None


class OwnCap(Form):
    """An own cap."""

    epsilon: str
    delta: str | None = None
    non_private: Yes | None = None


_Form = TypeVar("_Form", bound=Form)


def decode(form: type[_Form], body: bytes) -> _Form:
    """Read a body.

    Raises:
        FormatError: `bad-request` naming the field, never its value.
    """
    try:
        return form.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise FormatError("bad-request", f"{where}: {first['msg']}") from None


def approve(node: Node, run: str, form: Approve) -> None:
    """As `accord-node approve`.

    Raises:
        PolicyError: of the check that refuses it; the node has then refused the run.
        ConflictError: `run-changed`.
    """
    with node.open() as stores, stores.home.registry() as registry:
        pending = look_at(stores, registry, run)
        considered = pending.considered
        _same(considered.facts.manifest.hash, form.manifest)
        if considered.facts.run.privacy == "none" and form.unprotected is None:
            raise UsageError("not-confirmed", "this run protects nobody's record: say so")
        settle(stores, registry, pending, considered.verdict, lambda _: None)
    node.hurry()
    if (verdict := considered.verdict).decision == "refuse":
        raise PolicyError(verdict.code, verdict.reason, hint="The node refused the run.")


def refuse(node: Node, run: str, form: Refuse) -> None:
    """As `accord-node refuse`."""
    with node.open() as stores, stores.home.registry() as registry:
        pending = look_at(stores, registry, run)
        _same(pending.considered.facts.manifest.hash, form.manifest)
        verdict = Verdict("refuse", STEWARD_REFUSED, form.reason)
        settle(stores, registry, pending, verdict, lambda _: None)
    node.hurry()


def sign(node: Node, agreement: str, form: Sign) -> None:
    """As `accord-node agreement sign`.

    Raises:
        UsageError: `hash-incomplete`, `hash-differs`, `wrong-passphrase`.
    """
    typed = form.hash.strip().lower()
    if len(typed) == len(agreement) and typed != agreement:
        raise UsageError(
            "hash-differs",
            f"{typed[:16]}... was typed, this agreement is {agreement[:16]}...",
            hint="Do not sign: ask whoever gave you the hash.",
        )
    home = Home.open(node.path)
    own = Agreements.of(home)
    with home.registry() as registry:
        proposed = propose(home, own, registry, typed)
        key = home.identity(form.passphrase.get_secret_value())
        sign_proposed(home, own, registry, proposed, key)
    node.hurry()


def say(node: Node, agreement: str, step: Step, form: Say) -> None:
    """As `accord-node agreement withdraw`, `suspend` and `resume`.

    Raises:
        UsageError: `not-confirmed`, `no-reason`, `wrong-passphrase`.
        ConflictError: `already-suspended`, `not-suspended`.
    """
    if step == "withdraw" and form.sure is None:
        raise UsageError("not-confirmed", "a withdrawal cannot be taken back: confirm it")
    if step != "resume" and not form.reason:
        raise UsageError("no-reason", "every party reads the reason: give one")
    home = Home.open(node.path)
    own = Agreements.of(home)
    hash_, _ = own.find(agreement)
    leaving.catch_up(home, own, lambda _: None)
    made = leaving.statement_of(own, hash_, step, form.reason)
    halts.say(own, made, home.identity(form.passphrase.get_secret_value()))
    leaving.send(home, own, lambda _: None)
    node.hurry()


def cap(node: Node, dataset: str, form: OwnCap | None) -> None:
    """As `accord-node budget cap`; None removes it.

    Raises:
        UsageError: `bad-cap`, `no-cap`.
    """
    with node.open() as stores:
        local = stores.datasets.get(dataset)
        made = None
        if form is not None:
            permitted = form.non_private is not None
            made = own_caps.cap_of(stores, local, form.epsilon, form.delta, permitted)
        own_caps.put(stores, local, made)
    node.hurry()


def _same(manifest: str, shown: str) -> None:
    if manifest != shown:
        raise ConflictError(
            "run-changed",
            f"the run is {manifest[:16]}, the page showed {shown[:16]}",
            hint="Load the page and read it again.",
        )
