"""A server that holds every key but the honest nodes', and tells every node what it likes.

It plays the coordinator, the aggregator, the transport and c colluding nodes. `Adversary.attack`
asks the honest nodes for everything in random order, in two camps that are told different
cohorts, models, sharers and uploads, over several attempts, with replays and restarts, and keeps
all that it gets. Where the graph is drawn, it also leaves out some neighbours of one node in what
that node is told, and others in what everybody else is told. `Knowledge` opens it with every key
that the adversary has and says which sums of honest inputs it could take the masks off.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from accord_client.secagg import NodeSecAgg
from accord_common.envelope import Envelope, sign
from accord_common.errors import AccordError
from accord_common.manifest import context
from accord_common.secagg.channels import PeerShares, open_answer, open_shares, seal_shares
from accord_common.secagg.draw import commitment, draw, parameters_of
from accord_common.secagg.graph import Neighbourhood, complete, is_drawn
from accord_common.secagg.messages import (
    Advertisement,
    Commitment,
    Confirmation,
    Reveal,
    Shares,
    Unmasking,
    Upload,
    cohort_hash,
    uploads_hash,
)
from accord_common.secagg.shamir import Share, combine
from tests.secagg_driver import Federation

Place = tuple[int, int]  # round, attempt


@dataclass
class Puppet:
    """A colluding node in one attempt, as one camp sees it."""

    mask: X25519PrivateKey
    channel: X25519PrivateKey
    advertisement: Envelope
    value: bytes = bytes(32)  # its part in a draw


@dataclass
class Camp:
    """What some of the honest nodes are told in one attempt."""

    model: str
    puppets: dict[str, Puppet]
    absent: frozenset[str]
    late: frozenset[str]  # in U1, not in U2
    silent: frozenset[str]  # in U2, not in U3
    isolates: bool = False  # one node: by the U2 that it is told, and the U3 that the others are


@dataclass(frozen=True)
class Told:
    """The request that a masked vector followed from."""

    members: tuple[str, ...]
    mask_keys: dict[str, str]
    cohort: str
    sharers: tuple[str, ...]
    near: tuple[str, ...]  # of the sharers, those whose shares it was given
    model: str


@dataclass
class Adversary:
    """See the module. `colluders` are the last c of the roster."""

    fed: Federation
    random: Random
    nodes: dict[str, NodeSecAgg] = field(init=False)
    colluders: list[str] = field(init=False)
    advertised: dict[tuple[Place, str], Envelope] = field(default_factory=dict)
    shared: dict[tuple[Place, str, str], Envelope] = field(default_factory=dict)  # by cohort
    dealt: list[tuple[Shares, dict[str, Puppet], Advertisement]] = field(default_factory=list)
    uploaded: dict[tuple[Place, str], list[Envelope]] = field(
        default_factory=lambda: defaultdict(list)
    )
    told: dict[tuple[Place, str], Told] = field(default_factory=dict)
    confirmed: list[Envelope] = field(default_factory=list)
    said: dict[tuple[Place, str], Envelope] = field(default_factory=dict)  # the newest
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by their hash
    answered: dict[str, Envelope] = field(default_factory=dict)  # by record hash
    graphs: dict[str, Neighbourhood] = field(default_factory=dict)  # by cohort
    deeds: int = 0
    is_drawn: bool = field(init=False)
    kind: type[Advertisement] = field(init=False)

    def __post_init__(self) -> None:
        c = self.fed.manifest.secagg.colluders
        self.colluders = self.fed.parties[len(self.fed.parties) - c :]
        self.nodes = {p: n for p, n in self.fed.nodes.items() if p not in self.colluders}
        self.is_drawn = is_drawn(self.fed.manifest.n)
        self.kind = Commitment if self.is_drawn else Advertisement

    def attack(self, places: Sequence[Place]) -> None:
        """Ask for everything, several times over."""
        for place in places:
            camps = [self._camp(place), self._camp(place)]
            if self.random.random() < 0.5:
                camps[1].puppets = camps[0].puppets
            if self.random.random() < 0.5:  # alike but for what is said to have arrived
                camps[1] = replace(camps[0], silent=camps[1].silent)
            if self.is_drawn and self.random.random() < 0.5:
                clean: frozenset[str] = frozenset()
                camp = replace(camps[0], isolates=True, absent=clean, late=clean, silent=clean)
                camps = [camp, camp]
            share = self.random.choice([0.0, 0.4])  # of the nodes that are in the second camp
            side = {party: self.random.random() < share for party in self.nodes}
            swap, noise = self.random.random() < 0.5, self.random.choice([0.0, 0.1])
            for turn, stage in enumerate((0, 1, 2, 3, 4, 3, 4)):
                swapped = turn > 4 and swap
                order = list(self.nodes)
                self.random.shuffle(order)
                for party in order:
                    odd = self.random.random() < noise
                    self._step(stage, place, party, camps[side[party] ^ odd ^ swapped])
                    if self.random.random() < noise:  # out of order, another camp, another attempt
                        some = self.random.choice(places)
                        self._step(self.random.randrange(5), some, party, self.random.choice(camps))
                    if self.random.random() < noise / 2:
                        self.fed.restart(party)
                        self.nodes[party] = self.fed.nodes[party]

    def _some(self, parties: Sequence[str], chance: float) -> frozenset[str]:
        return frozenset(party for party in parties if self.random.random() < chance)

    def _camp(self, place: Place) -> Camp:
        chance = self.random.choice([0.0, 0.1, 0.3])
        silent = self._some(self.fed.parties, chance)
        one = frozenset({self.random.choice(list(self.nodes))})
        silent = self.random.choice([silent, silent, one, frozenset(self.fed.parties) - one])
        return Camp(
            model=self.random.choice(["d0", "d1"]) * 32,
            puppets={party: self._puppet(place, party) for party in self.colluders},
            absent=self._some(self.fed.parties, chance / 2),
            late=self._some(self.fed.parties, chance / 2),
            silent=silent,
        )

    def _puppet(self, place: Place, party: str) -> Puppet:
        mask, channel = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        body = Advertisement(
            manifest=self.fed.manifest_hash,
            round=place[0],
            attempt=place[1],
            party=party,
            mask_key=mask.public_key().public_bytes_raw().hex(),
            channel_key=channel.public_key().public_bytes_raw().hex(),
        )
        if self.is_drawn:
            promised = commitment(bytes(32), context(self.fed.manifest_hash, *place), party)
            body = Commitment(**body.model_dump(), commitment=promised)
        return Puppet(mask, channel, sign(body.KIND, body, self.fed.node_keys[party]))

    def _step(self, stage: int, place: Place, party: str, camp: Camp) -> None:
        try:
            (self._r0, self._r1, self._r2, self._r3, self._r4)[stage](place, party, camp)
            self.deeds += 1
        except (AccordError, KeyError):  # refused, or not yet possible to ask
            pass

    def _r0(self, place: Place, party: str, camp: Camp) -> None:
        self.advertised[place, party] = self.nodes[party].advertise(*place)

    def _cohort(self, place: Place, camp: Camp) -> list[Envelope]:
        found = {p: self.advertised[place, p] for p in self.nodes if (place, p) in self.advertised}
        found |= {p: puppet.advertisement for p, puppet in camp.puppets.items()}
        return [found[p] for p in sorted(found) if p not in camp.absent]

    def _r1(self, place: Place, party: str, camp: Camp) -> None:
        cohort = self._cohort(place, camp)
        name = cohort_hash(cohort)
        if self.is_drawn:
            reveals = self._reveals(place, cohort, camp)
            envelope = self.nodes[party].share_drawn(*place, reveals)
            self.graphs[name] = draw(
                reveals,
                cohort,
                manifest=self.fed.manifest,
                manifest_hash=self.fed.manifest_hash,
                node_keys=self.fed.peers,
                round_=place[0],
                attempt=place[1],
            )
        else:
            envelope = self.nodes[party].share(*place, cohort)
            members = [self.kind.from_bytes(member.payload).party for member in cohort]
            self.graphs[name] = complete(members, self.fed.manifest.secagg.threshold)
        self.shared[place, party, name] = envelope
        keys = self.kind.from_bytes(self.advertised[place, party].payload)
        self.dealt.append((Shares.from_bytes(envelope.payload), camp.puppets, keys))

    def _reveals(self, place: Place, cohort: list[Envelope], camp: Camp) -> dict[str, Envelope]:
        """Have every member of a cohort reveal to it."""
        reveals = {}
        for party in [self.kind.from_bytes(member.payload).party for member in cohort]:
            if party in self.nodes:
                reveals[party] = self.nodes[party].reveal(*place, cohort)
                continue
            body = Reveal(
                manifest=self.fed.manifest_hash,
                round=place[0],
                attempt=place[1],
                party=party,
                cohort=cohort_hash(cohort),
                value=camp.puppets[party].value.hex(),
            )
            reveals[party] = sign(body.KIND, body, self.fed.node_keys[party])
        return reveals

    def _cut(self, cohort: str) -> tuple[str, set[str], set[str]]:
        """Whom to isolate, which neighbours it is not told of, and which are called lost."""
        circles, manifest = self.graphs[cohort].circles, self.fed.manifest
        victim = max(
            (party for party in circles if party in self.nodes),
            key=lambda party: len({*circles[party]}.intersection(self.colluders)),
        )
        honest = [p for p in circles[victim] if p in self.nodes and p != victim]
        most = manifest.n - manifest.smallest_cohort
        return victim, set(honest[:most]), set(honest[most : 2 * most])

    def _r2(self, place: Place, party: str, camp: Camp) -> None:
        cohort = self._cohort(place, camp)
        name = cohort_hash(cohort)
        bodies = [self.kind.from_bytes(envelope.payload) for envelope in cohort]
        keys = {body.party: body for body in bodies}
        sharers = [body.party for body in bodies if body.party not in camp.late]
        circle = self.graphs[name].circles[party]
        if camp.isolates:
            victim, unsaid, _ = self._cut(name)
            sharers = [p for p in keys if p not in unsaid or party != victim]
        near = [source for source in sharers if source in circle]
        sealed = {}
        for source in near:
            if source in camp.puppets:
                sealed[source] = seal_shares(
                    PeerShares(bytes(33), bytes(33)),
                    camp.puppets[source].channel,
                    keys[party].channel_key,
                    context=context(self.fed.manifest_hash, *place),
                    source=source,
                    destination=party,
                    cohort=name,
                )
            elif source != party:
                theirs = Shares.from_bytes(self.shared[place, source, name].payload)
                sealed[source] = theirs.sealed[party]
        node = self.nodes[party]
        opened = node.open_sharers(*place, name, sharers, sealed, camp.model)
        upload, _ = node.mask(opened, self.fed.vector(party, *place))
        self.uploaded[place, party].append(upload)
        mask_keys = {body.party: body.mask_key for body in bodies}
        self.told[place, party] = Told(
            tuple(keys), mask_keys, name, tuple(sharers), tuple(near), camp.model
        )

    def _r3(self, place: Place, party: str, camp: Camp) -> None:
        told, silent = self.told[place, party], camp.silent
        if camp.isolates:
            silent = frozenset(self._cut(told.cohort)[2])
        uploads = {
            source: self.uploaded[place, source][0].hash if source in self.nodes else "ff" * 32
            for source in told.sharers
            if (source not in silent or source == party)
            and (source not in self.nodes or self.uploaded[place, source])
        }
        self.lists[uploads_hash(uploads)] = tuple(sorted(uploads))
        self.said[place, party] = self.nodes[party].confirm(*place, uploads)
        self.confirmed.append(self.said[place, party])

    def _r4(self, place: Place, party: str, camp: Camp) -> None:
        """Every confirmation that says what this node said, and forged ones of the colluders."""
        said = _says(self.said[place, party])
        same = {_says(e).party: e for e in self.confirmed if _without(_says(e)) == _without(said)}
        for puppet in self.colluders:
            body = said.model_copy(update={"party": puppet})
            same[puppet] = sign(body.KIND, body, self.fed.node_keys[puppet])
        told = [same[p] for p in sorted(same) if p in self.lists[said.uploads]]
        if self.random.random() < 0.1:
            told = self.confirmed[: len(self.fed.parties)]
        more = [self._uploads(place, party, said)] if self.is_drawn else []
        answer = self.nodes[party].unmask(*place, told, *more)
        self.answered[answer.hash] = answer

    def _uploads(self, place: Place, party: str, said: Confirmation) -> list[Envelope]:
        """What a node's neighbours in U3 signed; the colluders sign what it wants to see."""
        uploads = []
        for peer in self.told[place, party].near:
            if peer == party or peer not in self.lists[said.uploads]:
                continue
            if peer in self.nodes:
                uploads.append(self.uploaded[place, peer][0])
                continue
            body = Upload(
                **said.model_copy(update={"party": peer}).model_dump(exclude={"uploads"}),
                words=1,
                chunks=1,
                ephemeral_key="00" * 32,
                root="00" * 32,
            )
            uploads.append(sign(body.KIND, body, self.fed.node_keys[peer]))
        return uploads


class Knowledge:
    """What an adversary knows after its attack.

    Attributes:
        seeds: (honest party, mask key) -> points at which it has a share of b.
        keys: the same for the mask key.
    """

    def __init__(self, adversary: Adversary) -> None:
        self.adversary = adversary
        self.fed = adversary.fed
        self.seeds: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        self.keys: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
        self._from_colluders()
        self._from_answers()
        threshold = self.fed.manifest.secagg.threshold
        if adversary.is_drawn:
            threshold = parameters_of(self.fed.manifest).threshold
        self.known_seeds = {d for d, held in self.seeds.items() if len(held) >= threshold}
        self.known_keys = {d for d, held in self.keys.items() if len(held) >= threshold}
        for dealing in self.known_keys:  # they are real: combined, they give the very key
            shares = [Share(x, value) for x, value in self.keys[dealing].items()]
            key = X25519PrivateKey.from_private_bytes(combine(shares, threshold))
            assert key.public_key().public_bytes_raw().hex() == dealing[1]

    def _from_colluders(self) -> None:
        for body, puppets, keys in self.adversary.dealt:
            for puppet in set(puppets) & set(body.sealed):
                opened = open_shares(
                    body.sealed[puppet],
                    puppets[puppet].channel,
                    keys.channel_key,
                    context=context(self.fed.manifest_hash, body.round, body.attempt),
                    source=body.party,
                    destination=puppet,
                    cohort=body.cohort,
                )
                x = self.fed.manifest.index(puppet) + 1
                self.seeds[body.party, keys.mask_key][x] = opened.seed
                self.keys[body.party, keys.mask_key][x] = opened.key

    def _from_answers(self) -> None:
        for envelope in self.adversary.answered.values():
            body = Unmasking.from_bytes(envelope.payload)
            place, holder = (body.round, body.attempt), body.party
            told = self.adversary.told[place, holder]
            values = open_answer(
                body.sealed,
                self.fed.envelope_key,
                body.ephemeral_key,
                count=len(told.near),
                context=context(self.fed.manifest_hash, *place),
                source=holder,
                destination=self.fed.manifest.aggregator.party,
                uploads=body.uploads,
            )
            x = self.fed.manifest.index(holder) + 1
            for party, value in zip(told.near, values, strict=True):
                if party in self.adversary.colluders:
                    continue
                listed = party in self.adversary.lists[body.uploads]
                held = self.seeds if listed else self.keys
                held[party, told.mask_keys[party]][x] = value

    def exposed(self) -> list[frozenset[str]]:
        """The sets of honest nodes whose summed inputs the adversary can take all masks off.

        Two vectors that share an unknown pairwise mask tell nothing apart, only summed; so each
        set is a connected part of the graph of unknown pairwise masks, all of it uploaded, with
        every member's b known.
        """
        found = []
        for place in {place for place, _ in self.adversary.told}:
            told = {p: t for (at, p), t in self.adversary.told.items() if at == place}
            left = set(told)
            while left:
                part, whole = self._part(told, left.pop())
                left -= part
                if whole and all((p, told[p].mask_keys[p]) in self.known_seeds for p in part):
                    found.append(frozenset(part))
        return found

    def _part(self, told: dict[str, Told], start: str) -> tuple[set[str], bool]:
        """Everybody joined to `start` by masks that are unknown; whether all of them uploaded."""
        part, todo, whole = {start}, [start], True
        while todo:
            party = todo.pop()
            mine = told[party]
            for peer in mine.near:
                if peer == party or peer in self.adversary.colluders:
                    continue
                pair = {(party, mine.mask_keys[party]), (peer, mine.mask_keys[peer])}
                if pair & self.known_keys:
                    continue
                theirs = told.get(peer)
                same = (
                    theirs is not None
                    and party in theirs.near
                    and ((theirs.cohort, theirs.model) == (mine.cohort, mine.model))
                )
                if not same:
                    whole = False  # a mask that nobody's vector cancels
                elif peer not in part:
                    part.add(peer)
                    todo.append(peer)
        return part, whole


def _says(envelope: Envelope) -> Confirmation:
    return Confirmation.from_bytes(envelope.payload)


def _without(body: Confirmation) -> Confirmation:
    return body.model_copy(update={"party": ""})


def uploads_of(adversary: Adversary) -> list[Upload]:
    """Every vector that an honest node masked."""
    return [
        Upload.from_bytes(envelope.payload)
        for envelopes in adversary.uploaded.values()
        for envelope in envelopes
    ]
