"""Who is told at `/metrics`, and what."""

import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from accord_common.errors import UsageError
from accord_common.exposition import Reading, exposed, gauge, is_loopback, parse_place


def get(port: int | None, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_metrics_are_read_when_asked_for_and_nothing_else_is_here() -> None:
    rows: dict[str, float] = {"a": 1.0}
    registry = CollectorRegistry()
    registry.register(
        Reading(lambda: [gauge("x", "?", [((k,), v) for k, v in rows.items()], ("run",))])
    )
    with exposed("127.0.0.1:0", registry) as port:
        status, text = get(port, "/metrics")
        (family,) = text_string_to_metric_families(text)
        assert status == 200 and [sample.labels for sample in family.samples] == [{"run": "a"}]
        rows.clear()
        assert "run=" not in get(port, "/metrics")[1]
        assert get(port, "/")[0] == get(port, "/metrics/a")[0] == 404
        assert get(port, "/metrics", "POST")[0] == 405
        with pytest.raises(UsageError, match="cannot listen"):
            with exposed(f"127.0.0.1:{port}", registry):
                pass
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port or 0), timeout=5):
        pass
    with exposed("", registry) as nobody:
        assert nobody is None


@pytest.mark.parametrize("place", ["", "9464", ":9464", "localhost", "localhost:x", "a:70000"])
def test_a_place_is_host_and_port(place: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_place(place)
    assert caught.value.code == "bad-listen"


def test_loopback_is_told_from_what_others_reach() -> None:
    assert parse_place("[::1]:9464") == ("::1", 9464)
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org"]))
