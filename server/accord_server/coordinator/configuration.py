"""What a run was told to do, field by field, and where runs differ.

Guarantees: every field of a manifest is there, but names, dates, keys and delegations that each run
has for itself, and bound and scale, which follow from the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from accord_common.canonical import canonical_bytes
from accord_common.chain import VerifiedRun
from accord_common.manifest import Site
from accord_server.coordinator.views import View

_LEFT_OUT = {"id", "title", "created", "aggregator", "roster"}
_DERIVED = frozenset({"secagg.bound", "secagg.scale"})


class Difference(View):
    """A field in which the manifests differ, and what each run has there: empty for nothing."""

    field: str
    values: list[str]


def settings(run: VerifiedRun) -> dict[str, str]:
    """What a run was told to do: field -> value in words."""
    manifest, agreement = run.manifest, run.agreement
    names = {party.id: party.name for party in agreement.parties}

    def by_site(value: Callable[[Site], object]) -> str:
        values = [(names[site.party], str(value(site))) for site in manifest.roster]
        if len({text for _, text in values}) == 1:
            return values[0][1]
        return ", ".join(f"{name} {text}" for name, text in values)

    body: dict[str, Any] = manifest.model_dump(mode="json", exclude=_LEFT_OUT)
    return {
        "datasets": ", ".join(_datasets(run)),
        "weights": by_site(lambda site: site.weight),
        "sampling_rate": by_site(lambda site: site.sampling_rate),
        "noise_multiplier": by_site(lambda site: site.noise_multiplier),
        **{field: text for field, text in _flat("", body) if field not in _DERIVED},
    }


def _datasets(run: VerifiedRun) -> list[str]:
    agreement = run.agreement
    return [
        f"{agreement.party(site.party).name}/{agreement.dataset(site.dataset).name}"
        for site in run.manifest.roster
    ]


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, item)
    elif isinstance(value, str):
        yield prefix, value
    else:
        yield prefix, canonical_bytes(value).decode()


def differences(settings: Sequence[dict[str, str]]) -> list[Difference]:
    """The fields in which runs differ, in a manifest's order."""
    fields = dict.fromkeys(field for one in settings for field in one)
    rows = [
        Difference(field=field, values=[one.get(field, "") for one in settings]) for field in fields
    ]
    return [row for row in rows if len(set(row.values)) > 1]
