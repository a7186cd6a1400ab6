"""Schemas and profiles for people at a terminal: the same at a node and at the coordinator's."""

from collections.abc import Mapping

from accord_common.cli import table
from accord_common.profiles import Profile, Share, declared_levels
from accord_common.schema import CategoryColumn, NumberColumn, Schema, TableSchema


def schema_text(schema: Schema, units: Mapping[str, str]) -> str:
    """A table of a schema's columns, the target and the identifier last."""
    rows = []
    if isinstance(schema, TableSchema):
        for column in schema.columns:
            match column:
                case NumberColumn():
                    declared = f"{column.minimum} to {column.maximum}"
                case CategoryColumn():
                    declared = ", ".join(column.categories)
            rows.append([column.name, column.type, declared, units.get(column.name, "")])
    else:
        rows += [[name, schema.kind, "", units.get(name, "")] for name in schema.inputs]
    target = schema.target
    rows.append([target.column, f"target, {target.type}", ", ".join(target.classes), ""])
    if schema.identifier is not None:
        rows.append([schema.identifier, "identifier", "", ""])
    return table("column", "type", "declared", "unit", rows=rows)


def profile_text(profile: Profile, schema: Schema) -> str:
    """A profile's shares, and what they are shares of."""
    declared = declared_levels(schema)
    rows = []
    for column in profile.columns:
        levels = zip(declared[column.name], column.levels, strict=True)
        told = ", ".join(f"{level} {_share(share)}" for level, share in levels)
        defects = map(_share, (column.missing, column.wrong_type, column.outside))
        rows.append([column.name, *defects, told])
    return "\n".join(
        [
            table("column", "missing", "wrong type", "outside", "categories", rows=rows),
            f"repeated rows {_share(profile.repeated_rows)}, "
            f"repeated identifiers {_share(profile.repeated_identifiers)}",
            f"Shares of the rows in steps of {profile.step} %; \N{EN DASH}: fewer than "
            f"{profile.smallest_cell} rows, or withheld beside such a share.",
        ]
    )


def _share(share: Share) -> str:
    return "\N{EN DASH}" if share is None else f"{share} %"
