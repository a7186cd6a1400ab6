"""Datasets are found by what their owners declare, page by page, on both engines."""

import pytest

from accord_common.errors import NotFoundError
from accord_common.fields import new_id
from tests.catalogued import DISEASE, RESEARCH, entry
from tests.server.registry.stack import Stack
from tests.server.registry.test_datasets import outsider_of


def test_datasets_are_found_by_what_their_newest_entry_says(stack: Stack) -> None:
    """Whoever is a member, party or not; page by page."""
    world = stack.world
    outsider = outsider_of(stack)
    own = world.hospitals[2]
    first = entry(world, own, duo=[RESEARCH])
    stack.client(own).post(first)
    client = stack.client(outsider)
    assert [found.id for found in client.datasets(duo=RESEARCH)] == [own.dataset]
    stack.client(own).post(entry(world, own, first, duo=["DUO:0000006"]))
    assert client.datasets(duo=RESEARCH) == []
    assert [found.id for found in client.datasets(duo="DUO:0000006")] == [own.dataset]
    assert [found.id for found in client.datasets(party=own.id)] == [own.dataset]
    assert own.dataset in {found.id for found in client.datasets(column="texture")}
    assert client.datasets(column="text") == client.datasets(party=new_id()) == []
    assert client.datasets(column="texture", duo=DISEASE, party=own.id) == []
    everything = [found.id for found in client.datasets()]
    assert everything == sorted(actor.dataset for actor in world.hospitals)
    headers = {"Authorization": f"Bearer {stack.tokens[outsider.id]}"}
    paged: list[str] = []
    while len(paged) < 4:
        query = {"limit": 1} | ({"after": paged[-1]} if paged else {})
        page = stack.http.get("/v1/datasets", params=query, headers=headers).json()
        if not page:
            break
        paged += [found["id"] for found in page]
    assert paged == everything
    for wrong in ({"duo": "HMB"}, {"column": "a" * 101}, {"party": "me"}, {"column": "\u202e"}):
        answer = stack.http.get("/v1/datasets", params=wrong, headers=headers)
        assert answer.status_code == 422, wrong
    with pytest.raises(NotFoundError, match=r"\[unknown-dataset\]"):
        client.dataset(new_id())
