"""What a site adds to a round: the model and its own table in, a quantised update out.

Guarantees: code and table are compared with what was agreed before the table is opened; what is
loaded is kept while they last. The model is the one that was announced, and finite.

Not covered: charging, which comes between `ready` and `words`; masks.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from accord_client.capacity import Capacity, rows_bytes
from accord_client.catalogue import Catalogue
from accord_client.devices import find_device
from accord_client.stores import Stores
from accord_client.trainer import Trainer
from accord_common.agreement import Agreement, verify_agreement
from accord_common.bulk import bodies_of, taken
from accord_common.errors import ProtocolError
from accord_common.manifest import RunManifest, Site
from accord_common.rings import Z32, Words, quantise, ring_of, rounds_to_nearest
from accord_common.terms import site_noise

log = structlog.get_logger(__name__)


def open_model(
    manifest: RunManifest, round_: int, name: str, bulk: Sequence[bytes]
) -> NDArray[np.float32]:
    """Return the model (d,) that the aggregator sent and named; a `Bulk` is used up.

    Raises:
        ProtocolError: `wrong-length`, `wrong-model`, `model-not-finite`.
    """
    size = sum(body.size for body in bodies_of(bulk))
    if size != 4 * manifest.dimension:
        raise ProtocolError(
            "wrong-length", f"a model of {size} bytes, not {4 * manifest.dimension}"
        )
    data = bytearray(size)
    place = 0
    for chunk in taken(bulk):
        data[place : place + len(chunk)] = chunk
        place += len(chunk)
    if hashlib.sha256(data).hexdigest() != name:
        raise ProtocolError("wrong-model", "the model is not the one that was announced")
    if round_ == 0 and name != manifest.initial_model:
        raise ProtocolError("wrong-model", "round 0 does not start from the manifest's model")
    model: NDArray[np.float32] = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    if not np.isfinite(model).all():
        raise ProtocolError("model-not-finite", "the model holds NaN or infinity")
    return model


@dataclass(slots=True)
class Contribution:
    """One site's part of one run."""

    stores: Stores
    manifest: RunManifest
    site: Site
    capacity: Capacity
    _trainer: Trainer | None = field(default=None)
    _opted_out: frozenset[str] = frozenset()
    _stochastic: bool | None = field(default=None)
    _terms: Agreement | None = field(default=None)

    def ready(self) -> None:
        """Check device, disk, memory, code and files without opening the table.

        Raises:
            DataError: `dataset-missing`, `dataset-changed`, `opt-outs-unreadable`, `base-missing`.
            PolicyError: `task-code-differs`, `catalogue-stricter`.
            UsageError: `no-cuda`.
            ConflictError: `disk-full`, `memory-short`.
        """
        find_device(self.capacity.limits.device)
        dataset = self.stores.datasets.get(self.site.dataset)
        dataset.check_unchanged()
        Catalogue(self.stores.home).check(dataset.id, self._agreement())
        self._opted_out = self.stores.datasets.opt_outs(dataset).read()
        if self.manifest.adaptation is not None:
            self.stores.bases.require(self.manifest.adaptation)
        if self._trainer is None or self._trainer.dataset != dataset:
            self._trainer = Trainer(
                self.manifest, self.site, dataset, self.stores.bases, self.capacity.limits
            )
        self._trainer.check_code()
        self._trainer.look(self._opted_out)
        self._trainer.part_bytes = self.fits()  # last: what was read by now is counted

    def fits(self) -> int:
        """Refuse an attempt for which disk or memory is short; a part's bytes as `Capacity.check`.

        Raises:
            ConflictError: `disk-full`, `memory-short`.
            NotFoundError: `unknown-dataset`.
        """
        held = 0 if self._trainer is None else self._trainer.held_bytes
        most = rows_bytes(self.stores.datasets.get(self.site.dataset))
        return self.capacity.check(self.manifest, most - held)

    def words(self, model: NDArray[np.float32]) -> Words:
        """Train one round from `model` (d,); return w' x, quantised, (d,)."""
        assert self._trainer is not None  # `ready` comes first
        update = self._trainer.update(model, self._opted_out)
        largest = max(site.weight for site in self.manifest.roster)
        if self.site.weight != largest:
            update *= np.float32(self.site.weight / largest)
        secagg = self.manifest.secagg
        ring = ring_of(secagg.ring_bits)
        # Words that are no wider take the update's place, which nobody needs from here on.
        place = update.view(ring.words)[: update.size] if ring.bits <= Z32.bits else None
        words, clamped = quantise(
            update, secagg.scale, secagg.bound, ring, stochastic=self._rounds_at_random(), out=place
        )
        if clamped:
            log.warning("update-clamped", run=self.manifest.id, count=clamped)
        return words

    def _rounds_at_random(self) -> bool:
        """Whether this site's noise, none included, is too small for rounding to nearest."""
        if self._stochastic is None:
            noise = site_noise(self._agreement(), self.manifest, self.site)
            self._stochastic = not rounds_to_nearest(noise, self.manifest.secagg.scale)
        return self._stochastic

    def _agreement(self) -> Agreement:
        """The own copy; verified once, for its hash names its bytes."""
        if self._terms is None:
            own = self.stores.agreements.signed().get(self.manifest.agreement)
            assert own is not None  # `Standing.check` saw it in this very message
            self._terms = verify_agreement(own)
        return self._terms
