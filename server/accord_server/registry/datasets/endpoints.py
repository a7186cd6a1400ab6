"""`/v1/datasets`: what holders offer, without any row."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import StringConstraints

from accord_common.api.dataset_schemas import CatalogueView, DatasetDetail
from accord_common.api.schemas import DatasetDraft, DatasetView
from accord_common.errors import ConflictError
from accord_common.fields import Id, Name, now
from accord_server.registry.auth import Allow, Caller
from accord_server.registry.context import Registry, registry
from accord_server.registry.datasets import repository
from accord_server.registry.paging import AfterId, Limit
from accord_server.registry.tables import DatasetRow

router = APIRouter(tags=["datasets"])

Code = Annotated[str, StringConstraints(pattern=r"^DUO:[0-9]{7}$")]


@router.post("/v1/datasets", summary="Register a dataset")
async def register(
    body: DatasetDraft,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> DatasetView:
    """Register the caller's dataset; the same draft again is no change, another is refused.

    So is a population that another party registered: what is spent on one is shown to its owner.
    """
    wanted = DatasetView(
        **(body.model_dump() | {"table": body.table}),
        owner=caller.party,
        schema_hash=body.table.hash,
    )
    async with registry.database.write() as session:
        row = await session.get(DatasetRow, body.id)
        if row is not None:
            if DatasetView.model_validate(repository.registered(row)) != wanted:
                raise ConflictError(
                    "dataset-exists",
                    f"dataset {body.id} is registered with other terms",
                    hint="Register it under a new id; agreements may name the old one.",
                )
            return wanted
        if await repository.is_anothers(session, wanted.population, wanted.owner):
            raise ConflictError(
                "population-of-another",
                f"population {wanted.population} is another party's",
                hint="Each institution has populations of its own; people who may be in two are "
                "told by accord-node overlap.",
            )
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
    duo: Annotated[Code | None, Query(description="a code of the entry's conditions")] = None,
    party: Annotated[Id | None, Query(description="the owner")] = None,
    column: Annotated[Name | None, Query(description="a column of the entry, exactly")] = None,
) -> list[CatalogueView]:
    """Datasets by id, each with the newest entry that its owner signed."""
    async with registry.database.read() as session:
        return await repository.page(session, after, limit, duo=duo, party=party, column=column)


@router.get("/v1/datasets/{dataset}", summary="Read one dataset")
async def one(
    dataset: Id,
    caller: Annotated[Caller, Depends(Allow())],
    registry: Annotated[Registry, Depends(registry)],
) -> DatasetDetail:
    """Versions of its entry; agreements that name it, and profiles, where the caller is a party."""
    async with registry.database.read() as session:
        return await repository.detail(session, dataset, caller.sees, now())
