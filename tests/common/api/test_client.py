"""The registry's client against a registry that really serves over TLS."""

import asyncio
import hashlib
import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from accord_common import errors
from accord_common.api import http, schemas
from accord_common.api.client import RegistryClient
from accord_common.api.http import Connection, fetch_ca
from accord_common.api.schemas import FINAL_STATES, AgreementView, Problem
from accord_common.errors import AccordError, FormatError, TransportError, VerificationError
from accord_common.fields import new_id, now
from accord_common.identity import SigningKey
from accord_common.network.settings import Network
from accord_server.ca import create_ca, fingerprint
from accord_server.certificates import issue
from accord_server.registry.setup import initialise
from tests.common.api.conftest import Live
from tests.server.registry.stack import free_port, serving, settings_in
from tests.world import make_actor


def code_of(error: pytest.ExceptionInfo[AccordError]) -> str:
    return error.value.code


def test_the_registry_tells_its_time(live: Live) -> None:
    assert abs((live.coordinator.moment() - now()).total_seconds()) <= 2


def test_only_the_pinned_ca_is_trusted(live: Live, tmp_path: Path) -> None:
    create_ca(tmp_path, "Test CA", now())
    with (
        RegistryClient(live.settings.url, (tmp_path / "ca.pem").read_bytes()) as client,
        pytest.raises(TransportError) as error,
    ):
        client.info()
    assert code_of(error) == "registry-unreachable"
    assert "[tls-intercepted]" in error.value.message and "'Test CA'" in error.value.message


def test_the_host_name_is_checked(live: Live) -> None:
    other = live.settings.url.replace("127.0.0.1", "localhost")
    with RegistryClient(other, live.ca_pem) as client, pytest.raises(TransportError) as error:
        client.info()
    assert code_of(error) == "registry-unreachable"


def test_plain_http_and_old_tls_are_refused(live: Live) -> None:
    with pytest.raises(errors.UsageError) as plain:
        RegistryClient(live.settings.url.replace("https", "http"), live.ca_pem)
    assert code_of(plain) == "not-https"
    with pytest.raises(FormatError) as junk:
        RegistryClient(live.settings.url, b"not a certificate")
    assert code_of(junk) == "bad-certificate"
    old = ssl.create_default_context(cadata=live.ca_pem.decode())
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with httpx.Client(verify=old) as client, pytest.raises(httpx.ConnectError):
        client.get(f"{live.settings.url}/livez")
    with httpx.Client() as client, pytest.raises(httpx.TransportError):
        client.get(f"{live.settings.url.replace('https', 'http')}/livez")


def test_the_ca_is_fetched_by_its_fingerprint(live: Live) -> None:
    pinned = fingerprint(live.ca_pem)
    assert fetch_ca(live.settings.url, pinned, Network(), now()) == live.ca_pem
    with pytest.raises(VerificationError) as wrong:
        fetch_ca(live.settings.url, "ab" * 32, Network(), now())
    assert code_of(wrong) == "wrong-ca"
    with pytest.raises(TransportError) as nobody:
        fetch_ca(f"https://127.0.0.1:{free_port()}", pinned, Network(), now())
    assert code_of(nobody) == "registry-unreachable"


def test_no_second_certificate_rides_on_the_fingerprint(tmp_path: Path) -> None:
    """Python decodes the first certificate of a file up to its padding, OpenSSL trusts them all."""
    while not (tmp_path / "ca.pem").exists() or b"=" not in (tmp_path / "ca.pem").read_bytes():
        shutil.rmtree(tmp_path)
        create_ca(tmp_path, "Real CA", now())
    real = (tmp_path / "ca.pem").read_bytes()
    issue(tmp_path, ["127.0.0.1"], tmp_path / "server.pem", tmp_path / "server.key", now())
    create_ca(tmp_path / "other", "Somebody in between", now())
    settings = settings_in(tmp_path / "registry", tmp_path, free_port())
    asyncio.run(initialise(settings))
    settings.ca.write_bytes(real + (tmp_path / "other" / "ca.pem").read_bytes())
    with serving(settings):
        assert fetch_ca(settings.url, fingerprint(real), Network(), now()) == real


def test_a_problem_becomes_the_error_that_it_was(live: Live) -> None:
    with pytest.raises(errors.NotFoundError) as missing:
        live.coordinator.run(new_id())
    assert code_of(missing) == "unknown-run" and missing.value.status == HTTPStatus.NOT_FOUND
    with (
        RegistryClient(live.settings.url, live.ca_pem) as client,
        pytest.raises(errors.AuthError) as nobody,
    ):
        client.partners()
    assert code_of(nobody) == "no-token" and "invitation" in nobody.value.hint
    with pytest.raises(errors.PolicyError) as role:
        live.coordinator.lease(new_id(), "coordinator", 60)
    assert code_of(role) == "wrong-role"


@pytest.mark.parametrize("kind", sorted(http._BY_NAME))
def test_every_class_of_error_survives_the_wire(kind: str) -> None:
    body = Problem(
        type="urn:x", title="X", status=400, detail="d", code="a-code", hint="do this", error=kind
    )
    request = httpx.Request("GET", "https://registry.test")
    found = http.problem(httpx.Response(400, content=body.model_dump_json(), request=request))
    assert type(found) is http._BY_NAME[kind]
    assert (found.code, found.message, found.hint) == ("a-code", "d", "do this")


def test_blobs_of_some_megabytes_go_and_come(live: Live) -> None:
    data = hashlib.shake_256(b"model").digest(9 << 20)
    name = live.coordinator.put_blob(data)
    assert name == hashlib.sha256(data).hexdigest()
    assert (live.settings.blobs / name).read_bytes() == data


def test_a_client_waits_for_a_registry_that_restarts(live: Live) -> None:
    settings = settings_in(live.settings.home, live.settings.ca.parent, free_port())
    with RegistryClient(settings.url, live.ca_pem) as client:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.info)
            with serving(settings):
                assert asked.result(20).log_key == live.world.log_key.public
        with pytest.raises(TransportError) as error:
            client.info()
    assert code_of(error) == "registry-unreachable" and settings.url in error.value.message


def test_a_long_poll_ends_when_the_registry_stops(live: Live) -> None:
    settings = settings_in(live.settings.home, live.settings.ca.parent, free_port())
    with RegistryClient(settings.url, live.ca_pem, live.token) as client:
        with ThreadPoolExecutor(1) as pool:
            start = time.monotonic()
            with serving(settings):
                cursor = client.inbox().cursor
                polled = pool.submit(client.inbox, cursor, 30)
            polled.exception(20)  # an answer or a closed connection, but no wait of 30 s
            assert time.monotonic() - start < 20


class Flaky(httpx.BaseTransport):
    """Answers in turn with what it was given: a status or an exception."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers: Iterator[int | Exception] = iter(answers)
        self.asked = 0
        self.was_asked = threading.Event()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        self.was_asked.set()
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, json={"protocol": 1, "version": "0", "log_key": "ab" * 32})


def flaky(live: Live, *answers: int | Exception) -> tuple[RegistryClient, Flaky]:
    transport = Flaky(*answers)
    return RegistryClient(live.settings.url, live.ca_pem, transport=transport), transport


def test_what_may_be_repeated_is_repeated(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)
    client, transport = flaky(live, 503, httpx.ConnectError("refused"), httpx.ReadTimeout(""), 200)
    assert client.info().protocol == 1 and transport.asked == 4
    client, transport = flaky(live, *[httpx.ConnectError("refused")] * 9)
    with pytest.raises(TransportError):
        client.info()
    assert transport.asked == http.ATTEMPTS
    client, transport = flaky(live, 502, 200)
    with pytest.raises(TransportError) as error:
        client.invite("auditor", "auditor")
    assert transport.asked == 1 and code_of(error) == "bad-answer"


def test_closing_ends_the_pause_between_attempts(live: Live) -> None:
    client, transport = flaky(live, *[httpx.ConnectError("refused")] * 9)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.info)
        assert transport.was_asked.wait(10)
        client.close()
        with pytest.raises(TransportError):
            call.result(10)
    assert transport.asked < http.ATTEMPTS


def test_an_answer_of_another_shape_is_named(live: Live) -> None:
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json={"protocol": "one"}))
    client = RegistryClient(live.settings.url, live.ca_pem, transport=answer)
    with pytest.raises(FormatError) as error:
        client.info()
    assert code_of(error) == "bad-answer" and "Info" in error.value.message
    with pytest.raises(FormatError):
        client.partners()


def test_a_registry_that_swaps_a_record_is_caught(live: Live) -> None:
    stored = live.coordinator.records()[0]
    swapped = stored.model_dump(mode="json") | {"hash": "ab" * 32}
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json=swapped))
    client = RegistryClient(live.settings.url, live.ca_pem, transport=answer)
    with pytest.raises(VerificationError) as error:
        client.record("ab" * 32)
    assert code_of(error) == "wrong-hash"
    honest = httpx.MockTransport(lambda _: httpx.Response(200, json=stored.model_dump(mode="json")))
    client = RegistryClient(live.settings.url, live.ca_pem, transport=honest)
    assert client.record(stored.hash) == stored.envelope
    with pytest.raises(VerificationError):
        client.record("cd" * 32)
    blob = httpx.MockTransport(lambda _: httpx.Response(200, content=b"other bytes"))
    with pytest.raises(VerificationError):
        RegistryClient(live.settings.url, live.ca_pem, transport=blob).get_blob("ab" * 32)


def test_a_view_that_contradicts_its_envelope_is_refused(live: Live) -> None:
    envelope = live.world.agreement_envelope
    honest = AgreementView(
        hash=envelope.hash,
        agreement=live.world.agreement,
        envelope=envelope,
        status="active",
        signed=[],
        missing=[],
    )
    assert AgreementView.model_validate_json(honest.model_dump_json()) == honest
    other = live.world.amended(log_key=SigningKey.generate().public)
    told = honest.model_dump(mode="json") | {"agreement": other.agreement.model_dump()}
    with pytest.raises(VerificationError) as error:
        AgreementView.model_validate(told)
    assert code_of(error) == "different-records"


def test_long_lists_are_read_to_their_end(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    with RegistryClient(live.settings.url, live.ca_pem) as anybody:
        for number in range(5):
            actor = make_actor(f"auditor-{number}", "auditor")
            code = live.coordinator.invite(actor.role, actor.name).code
            anybody.enrol(code, actor.enrolment())
    everybody = live.coordinator.partners()
    assert len(everybody) == 6
    monkeypatch.setattr(schemas, "MAX_PAGE", 2)
    assert live.coordinator.partners() == everybody
    assert [partner.id for partner in everybody] == sorted(partner.id for partner in everybody)


def test_a_list_that_does_not_advance_is_refused(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = live.coordinator.partners()
    monkeypatch.setattr(schemas, "MAX_PAGE", len(page))
    pages = [page, page, []]
    monkeypatch.setattr(live.coordinator, "_page", lambda *_, **__: pages.pop(0))
    with pytest.raises(FormatError) as error:
        live.coordinator.partners()
    assert code_of(error) == "bad-answer"


def test_final_states_are_states() -> None:
    assert FINAL_STATES == {"completed", "failed", "stopped", "refused"}


def test_a_connection_can_be_used_by_several_threads(live: Live) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: live.coordinator.info().protocol, range(12)))
    assert found == [1] * 12
    assert (
        Connection(live.settings.url + "/", live.ca_pem, None, network=Network()).url
        == live.settings.url
    )
