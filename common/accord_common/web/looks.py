"""What a state looks like: an icon, words and a colour, so that none of the three is alone.

Guarantees: every state, decision, outcome and standing that a page shows has an entry, under its
kind; one that has none is shown as its own name, neutral, rather than not at all.
"""

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "busy", "wait", "bad", "off"]


def N_(words: str) -> str:
    """Mark words that a template translates."""
    return words


@dataclass(frozen=True, slots=True)
class Look:
    """An icon of `icons.svg`, source words, and a tone."""

    icon: str
    words: str
    tone: Tone


_LOOKS: dict[str, Look] = {
    # runs
    "awaiting-consent": Look("wait", N_("waiting for consents"), "wait"),
    "ready": Look("wait", N_("ready to start"), "wait"),
    "running": Look("run", N_("running"), "busy"),
    "completed": Look("done", N_("completed"), "good"),
    "failed": Look("failed", N_("failed"), "bad"),
    "refused": Look("refused", N_("refused"), "bad"),
    "stopped": Look("stopped", N_("stopped"), "off"),
    "withdrawn": Look("withdrawn", N_("withdrawn"), "off"),
    # agreements
    "draft": Look("draft", N_("draft"), "off"),
    "proposed": Look("wait", N_("waiting for signatures"), "wait"),
    "active": Look("done", N_("in force"), "good"),
    "suspended": Look("stopped", N_("suspended"), "wait"),
    "superseded": Look("replaced", N_("replaced by a newer version"), "off"),
    "expired": Look("expired", N_("expired"), "off"),
    # what a site did in a round
    "took-part": Look("done", N_("took part"), "good"),
    "dropped": Look("lost", N_("dropped out"), "wait"),
    "not-asked": Look("stopped", N_("not in it"), "off"),
    "sum-formed": Look("done", N_("sum formed"), "good"),
    "aborted": Look("failed", N_("in vain"), "wait"),
    # kinds of records
    "record-enrolment": Look("unknown", N_("enrolment"), "off"),
    "record-delegation": Look("unknown", N_("delegation of a node's key"), "off"),
    "record-revocation": Look("unknown", N_("revocation of a key"), "off"),
    "record-agreement": Look("unknown", N_("agreement"), "off"),
    "record-withdrawal": Look("unknown", N_("withdrawal"), "off"),
    "record-suspension": Look("unknown", N_("suspension"), "off"),
    "record-resumption": Look("unknown", N_("resumption"), "off"),
    "record-aggregator-offer": Look("unknown", N_("aggregator's offer"), "off"),
    "record-dataset-entry": Look("unknown", N_("catalogue entry"), "off"),
    "record-dataset-profile": Look("unknown", N_("released profile"), "off"),
    "record-manifest": Look("unknown", N_("run manifest"), "off"),
    "record-consent": Look("unknown", N_("consent"), "off"),
    "record-node-receipt": Look("unknown", N_("node's receipt"), "off"),
    "record-aggregator-receipt": Look("unknown", N_("aggregator's receipt"), "off"),
    "record-result": Look("unknown", N_("result"), "off"),
    "record-evaluation": Look("unknown", N_("evaluation"), "off"),
    "comment": Look("info", N_("comment"), "off"),
    "given-up": Look("failed", N_("given up"), "bad"),
    # what happened to a run, and its log's lines
    "manifest": Look("draft", N_("proposed"), "off"),
    "stop": Look("stopped", N_("asked to stop"), "wait"),
    "evaluation": Look("done", N_("scored"), "good"),
    "info": Look("info", N_("note"), "off"),
    "warning": Look("warning", N_("warning"), "wait"),
    "error": Look("failed", N_("error"), "bad"),
    # privacy of a run
    "private": Look("shield", N_("private"), "good"),
    "non-private": Look("warning", N_("not private"), "bad"),
    # consents
    "accept": Look("done", N_("accepted"), "good"),
    "refuse": Look("refused", N_("refused"), "bad"),
    "undecided": Look("wait", N_("not decided"), "wait"),
    "signed": Look("done", N_("signed"), "good"),
    "unsigned": Look("wait", N_("not signed yet"), "wait"),
    "withdrawal": Look("withdrawn", N_("withdrawn"), "off"),
    "suspension": Look("stopped", N_("suspended"), "wait"),
    # units of privacy
    "record": Look("unknown", N_("record"), "off"),
    "patient": Look("unknown", N_("patient"), "off"),
    # parties' roles
    "data-holder": Look("unknown", N_("data holder"), "off"),
    "coordinator": Look("unknown", N_("coordinator"), "off"),
    "aggregator": Look("unknown", N_("aggregator"), "off"),
    "auditor": Look("unknown", N_("auditor"), "off"),
    # people, keys and links
    "person-owner": Look("unknown", N_("owner"), "off"),
    "person-coordinator": Look("unknown", N_("coordinator"), "off"),
    "person-steward": Look("unknown", N_("steward"), "off"),
    "person-auditor": Look("unknown", N_("auditor"), "off"),
    "person-invited": Look("wait", N_("invited"), "wait"),
    "person-active": Look("done", N_("active"), "good"),
    "person-disabled": Look("stopped", N_("shut"), "bad"),
    "factor-on": Look("shield", N_("in force"), "good"),
    "factor-off": Look("warning", N_("none"), "wait"),
    "this-browser": Look("info", N_("this browser"), "busy"),
    "approved": Look("done", N_("approved"), "good"),
    "pending": Look("wait", N_("waits for approval"), "wait"),
    "shut-out": Look("stopped", N_("shut out for now"), "bad"),
    "revoked": Look("withdrawn", N_("revoked"), "bad"),
    "in-use": Look("done", N_("in use here"), "good"),
    "other-authority": Look("unknown", N_("not in use here"), "wait"),
    "online": Look("done", N_("heard of lately"), "good"),
    "silent": Look("lost", N_("silent"), "bad"),
    # how a node is
    "well": Look("done", N_("all is well"), "good"),
    "attention": Look("warning", N_("needs attention"), "wait"),
    "frozen": Look("failed", N_("frozen: nothing is accepted until this is mended"), "bad"),
    "lost": Look("lost", N_("out of reach"), "wait"),
    "valid": Look("done", N_("valid"), "good"),
    "ending": Look("warning", N_("ends soon"), "wait"),
    "over": Look("expired", N_("over"), "bad"),
    "unchanged": Look("done", N_("no change in sight"), "good"),
    # a cap
    "exhausted": Look("stopped", N_("used up"), "bad"),
    # a run against a cap, a version against the one before
    "fits": Look("done", N_("fits"), "good"),
    "exceeds": Look("refused", N_("does not fit"), "bad"),
    "wider": Look("warning", N_("more than before"), "wait"),
    "narrower": Look("done", N_("less than before"), "good"),
    "changed": Look("replaced", N_("something else"), "off"),
    # files
    "verifying": Look("wait", N_("being verified"), "wait"),
    "verified": Look("done", N_("verified"), "good"),
    "foreign": Look("unknown", N_("of another log"), "wait"),
    "differs": Look("failed", N_("differs"), "bad"),
    "broken": Look("failed", N_("broken"), "bad"),
}


def look(state: str) -> Look:
    """How to show a state."""
    return _LOOKS.get(state) or Look("unknown", state, "off")
