"""kill -9 of the node's own page while it signs: what is on the disk holds, and is sent later."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from accord_client.agreements import Agreements
from accord_client.steward.proofs import walk
from accord_common.errors import AccordError
from accord_server.registry.agreements import service
from tests.client.institutions import PASSPHRASE
from tests.web.node import own_page
from tests.web.place import working_day


@pytest.mark.soak(sample=0)
def test_kill_9_in_the_middle_of_a_signature_leaves_it_to_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, killed = threading.Event(), threading.Event()

    async def stuck(*_: object) -> None:
        reached.set()
        await asyncio.to_thread(killed.wait)
        raise AccordError("nobody-asks", "whoever asked is gone")

    with working_day(tmp_path) as place:
        party, hash_ = place.node.profile.party, place.names["draft"]
        at, form = f"/agreements/{hash_}", {"hash": hash_, "passphrase": PASSPHRASE}
        with monkeypatch.context() as patch, own_page(place.node) as page:
            patch.setattr(service, "sign", stuck)
            try:
                with page.client() as http, ThreadPoolExecutor(1) as other:
                    asked = other.submit(_change, http, f"{at}/sign", form)
                    assert reached.wait(60)
                    page.process.kill()
                    with pytest.raises(httpx.TransportError):
                        asked.result()
            finally:
                killed.set()
        assert hash_ in Agreements.of(place.node).signed()
        with place.clients() as clients:
            coordinator = clients[place.world.coordinator.id]
            assert party in coordinator.agreement(hash_).missing
            with own_page(place.node) as page:
                with page.client() as http:
                    assert "signed here, not yet at the registry" in http.get("/").text
                    assert _change(http, f"{at}/sign", form).status_code == 204
            assert party not in coordinator.agreement(hash_).missing
        proofs = walk(place.node)
        assert proofs.ledger is not None and not proofs.broken


def _change(http: httpx.Client, path: str, form: dict[str, str]) -> httpx.Response:
    page = http.get("/", headers={"Accept": "text/html"}).text
    token = page.partition('data-csrf="')[2].partition('"')[0]
    headers = {"Origin": str(http.base_url).rstrip("/"), "X-CSRF-Token": token}
    return http.post(path, json=form, headers=headers)
