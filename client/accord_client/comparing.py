"""What privacy cost this institution, and whether joining paid, by its own validation rows.

Guarantees: final models of ended runs, and models trained here alone, are scored on rows that no
training saw; reads the dataset, writes nothing, sends nothing but the names of what is fetched, and
charges nothing, since nothing is released.

Not covered: runs that trained before a patient was moved into validation. The figures depend on
private rows: they are for the steward, and stay here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING, Literal

from accord_client.data.rows import open_rows
from accord_client.datasets import LocalDataset
from accord_client.ended_runs import EndedRun, build_here
from accord_client.stores import Stores
from accord_client.trainer import local_plan
from accord_common.errors import DataError, UsageError
from accord_common.fields import Id
from accord_common.manifest import PrivacyMode
from accord_common.privacy.events import NO_NOISE

if TYPE_CHECKING:
    from torch import nn

    from accord_client.training.comparison import Figure, Logits
    from accord_common.models.task import Task
    from accord_common.tables import Encoded

Kind = Literal["federated", "local"]
Question = Literal["privacy", "joining"]
SHORT = 8  # last characters of a run's id: those of a UUIDv7 that differ


@dataclass(frozen=True, slots=True)
class Model:
    """One line: a run's model, or one that was trained here alone (`run` says as which run)."""

    name: str
    kind: Kind
    run: Id
    privacy: PrivacyMode
    trainings: int
    metrics: dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Difference:
    """`model` less `other`, by name."""

    question: Question
    model: str
    other: str
    metrics: dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that was found; counts of rows are private."""

    dataset: str
    training_rows: int
    validation_rows: int
    models: list[Model]
    differences: list[Difference]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line to come, with its answers."""

    name: str
    kind: Kind
    run: Id
    privacy: PrivacyMode
    logits: list[Logits]


def common_dataset(stores: Stores, runs: Sequence[EndedRun]) -> LocalDataset:
    """The dataset that all runs used here, with one task.

    Raises:
        UsageError: `different-datasets`, `different-tasks`, `run-repeated`.
        NotFoundError: `unknown-dataset`.
    """
    manifests = [ended.run.manifest for ended in runs]
    if len({manifest.id for manifest in manifests}) < len(manifests):
        raise UsageError("run-repeated", "a run is named twice")
    for code, found in (
        ("different-datasets", {manifest.site(stores.party).dataset for manifest in manifests}),
        ("different-tasks", {manifest.task.name for manifest in manifests}),
    ):
        if len(found) > 1:
            raise UsageError(
                code, f"the runs used {', '.join(sorted(found))}", hint="Compare them one by one."
            )
    return stores.datasets.get(manifests[0].site(stores.party).dataset)


def compare(
    stores: Stores,
    runs: Sequence[EndedRun],
    *,
    repeats: int,
    private: bool,
    report: Callable[[str], None],
    draws: int | None = None,
) -> Comparison:
    """Score the runs' models beside models trained here alone.

    Args:
        stores: the node's open folder.
        runs: of one dataset and one task.
        repeats: how often each local model is trained, each time with fresh samples.
        private: also train alone with each private run's clip and noise.
        report: told each step, in words.
        draws: of the bootstrap, where fewer than usual will do.

    Raises:
        DataError: `no-validation-rows`, or rows that are not those that were checked.
        UsageError: as `common_dataset`.
    """
    from accord_client.training.comparison import DRAWS, score

    dataset = common_dataset(stores, runs)
    rows = open_rows(dataset, stores.datasets.opt_outs(dataset).read())
    if rows.validation is None:
        raise DataError(
            "no-validation-rows",
            f"no rows of {dataset.name!r} are kept from training, so nothing can be compared",
            hint=f"accord-node dataset update {dataset.name!r} --validation 0.2, before the runs.",
        )
    bench = _Bench(stores, dataset, rows.train, rows.validation, repeats, report)
    for ended in runs:
        bench.add(ended, private=private)
    report("Scoring ...")
    answers = {entry.name: entry.logits for entry in bench.entries}
    scored = score(bench.task, answers, rows.validation.labels, draws=draws or DRAWS)
    return Comparison(
        dataset=dataset.name,
        training_rows=rows.train.rows,
        validation_rows=rows.validation.rows,
        models=[
            Model(
                name=entry.name,
                kind=entry.kind,
                run=entry.run,
                privacy=entry.privacy,
                trainings=len(entry.logits),
                metrics=scored.metrics(entry.name),
            )
            for entry in bench.entries
        ],
        differences=[
            Difference(question, model.name, other.name, scored.difference(model.name, other.name))
            for question, model, other in bench.questions()
        ],
    )


class _Bench:
    """Trains and asks; a recipe that several runs share is trained once."""

    def __init__(
        self,
        stores: Stores,
        dataset: LocalDataset,
        train: Encoded,
        validation: Encoded,
        repeats: int,
        report: Callable[[str], None],
    ) -> None:
        self._stores, self._dataset = stores, dataset
        self._train, self._validation = train, validation
        self._repeats, self._report = repeats, report
        self.entries: list[_Entry] = []
        self._known: dict[Hashable, _Entry] = {}
        self._pairs: list[tuple[_Entry, _Entry]] = []  # of a run, and of training alone as it does
        self.task: Task

    def add(self, ended: EndedRun, *, private: bool) -> None:
        """Ask a run's model, and train alone as it did; also with its noise where `private`."""
        from accord_common.models.evaluate import logits_of

        manifest = ended.run.manifest
        self.task, module = build_here(ended, self._dataset.table)
        name = f"run {manifest.id[-SHORT:]}, {_words(manifest.privacy)}"
        logits = [logits_of(module, ended.model, self._validation)]
        entry = _Entry(name, "federated", manifest.id, manifest.privacy, logits)
        self.entries.append(entry)
        for mode in ("none", "dp") if private and manifest.privacy == "dp" else ("none",):
            self._pairs.append((entry, self._alone(ended, module, mode)))

    def questions(self) -> Iterator[tuple[Question, _Entry, _Entry]]:
        """Which differences say what privacy cost, and whether joining paid."""
        for model, other in permutations(self.entries, 2):
            if (model.kind, model.privacy, other.privacy) == (other.kind, "none", "dp"):
                yield "privacy", model, other
        for model, other in self._pairs:
            yield "joining", model, other

    def _alone(self, ended: EndedRun, module: nn.Module, mode: PrivacyMode) -> _Entry:
        from accord_client.training.alone import train_alone
        from accord_common.models.evaluate import logits_of

        manifest = ended.run.manifest
        plan = local_plan(manifest, manifest.site(self._stores.party), self._dataset.size)
        if mode == "none":
            plan = replace(plan, noise_multiplier=NO_NOISE)
        model = repr((manifest.architecture, manifest.adaptation, manifest.initial_model))
        recipe = (model, plan, manifest.rounds)
        if recipe not in self._known:
            name = f"alone as {manifest.id[-SHORT:]}, {_words(mode)}"
            self._report(f"Training {name}: {self._repeats} times {manifest.rounds} rounds ...")
            logits = []
            for _ in range(self._repeats):
                vector = train_alone(
                    self.task, module, ended.start, self._train, plan, manifest.rounds
                )
                logits.append(logits_of(module, vector, self._validation))
            self._known[recipe] = _Entry(name, "local", manifest.id, mode, logits)
            self.entries.append(self._known[recipe])
        return self._known[recipe]


def _words(privacy: PrivacyMode) -> str:
    return "private" if privacy == "dp" else "without privacy"
