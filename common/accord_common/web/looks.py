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
    "approved": Look("done", N_("approved"), "good"),
    "pending": Look("wait", N_("waits for approval"), "wait"),
    "online": Look("done", N_("heard of lately"), "good"),
    "silent": Look("lost", N_("silent"), "bad"),
    # how a node is
    "well": Look("done", N_("all is well"), "good"),
    "attention": Look("warning", N_("needs attention"), "wait"),
    "frozen": Look("failed", N_("frozen: nothing is accepted until this is mended"), "bad"),
    "lost": Look("lost", N_("out of reach"), "wait"),
    "valid": Look("done", N_("valid"), "good"),
    "unchanged": Look("done", N_("no change in sight"), "good"),
    # a run against a cap, a version against the one before
    "fits": Look("done", N_("fits"), "good"),
    "exceeds": Look("refused", N_("does not fit"), "bad"),
    "wider": Look("warning", N_("more than before"), "wait"),
    "narrower": Look("done", N_("less than before"), "good"),
    "changed": Look("replaced", N_("something else"), "off"),
    # files
    "verified": Look("done", N_("verified"), "good"),
    "broken": Look("failed", N_("broken"), "bad"),
}


def look(state: str) -> Look:
    """How to show a state."""
    return _LOOKS.get(state) or Look("unknown", state, "off")
