"""`/v1/datasets`: what holders offer, without any row."""

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select

from accord_common import schema
from accord_common.api.schemas import DatasetDraft, DatasetView
from accord_common.errors import ConflictError
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.context import Registry, registry
from accord_server.registry.paging import AfterId, Limit
from accord_server.registry.tables import DatasetRow

router = APIRouter(tags=["datasets"])


@router.post("/v1/datasets", summary="Register a dataset")
async def register(
    body: DatasetDraft,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> DatasetView:
    """Register the caller's dataset; the same draft again is no change, another is refused."""
    wanted = DatasetView(
        **(body.model_dump() | {"table": body.table}),
        owner=caller.party,
        schema_hash=body.table.hash,
    )
    async with registry.database.write() as session:
        row = await session.get(DatasetRow, body.id)
        if row is not None:
            if view(row) != wanted:
                raise ConflictError(
                    "dataset-exists",
                    f"dataset {body.id} is registered with other terms",
                    hint="Register it under a new id; agreements may name the old one.",
                )
            return wanted
        session.add(
            DatasetRow(
                id=wanted.id,
                name=wanted.name,
                owner=wanted.owner,
                population=wanted.population,
                schema_hash=wanted.schema_hash,
                table=wanted.table.to_bytes(),
                size=wanted.size,
                unit=wanted.unit,
            )
        )
    return wanted


@router.get("/v1/datasets", summary="List datasets")
async def page(
    _: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
    after: AfterId = None,
    limit: Limit = 100,
) -> list[DatasetView]:
    """Datasets by id."""
    query = select(DatasetRow).order_by(DatasetRow.id).limit(limit)
    if after is not None:
        query = query.where(DatasetRow.id > after)
    async with registry.database.read() as session:
        return [view(row) for row in (await session.execute(query)).scalars()]


def view(row: DatasetRow) -> DatasetView:
    """Show a dataset."""
    return DatasetView.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "owner": row.owner,
            "population": row.population,
            "schema_hash": row.schema_hash,
            "table": schema.from_bytes(row.table),
            "size": row.size,
            "unit": row.unit,
        }
    )
