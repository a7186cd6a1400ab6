"""A node's figures reach its institution, whatever is in the way, and harm no round."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from accord_client.telling import Telling
from accord_common.errors import UsageError
from accord_common.network.settings import Network

TEXT = b"accord_node_disk_free_bytes 1.0\n"


def telling(file: Path | None = None, push: str = "", text: bytes = TEXT) -> Telling:
    return Telling(lambda: text, file, push, "0197", Network())


def test_the_file_is_whole_and_a_group_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "accord.prom"
    one = telling(path)
    one.tell()
    one.tell()
    assert path.read_bytes() == TEXT
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_trouble_is_told_once_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "textfile"
    one = telling(folder / "accord.prom")
    one.tell()
    one.tell()
    folder.mkdir()
    one.tell()
    said = capsys.readouterr()
    assert (said.out + said.err).count("metrics-not-told") == 1
    assert (said.out + said.err).count("metrics-told-again") == 1
    assert (folder / "accord.prom").read_bytes() == TEXT


class Gateway(BaseHTTPRequestHandler):
    """Takes what is put; refuses the first."""

    taken: list[tuple[str, bytes]]

    def do_PUT(self) -> None:
        """Serve one."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append((self.path, body))
        self.send_response(500 if len(self.taken) == 1 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_gateway_that_fails_harms_nothing_and_gets_the_next(tmp_path: Path) -> None:
    taken: list[tuple[str, bytes]] = []
    handler = type("Handler", (Gateway,), {"taken": taken})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        both = telling(tmp_path / "accord.prom", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=both.run)
        thread.start()
        while len(taken) < 2:
            both.wake()
        both.stop()
        thread.join(30)
        server.shutdown()
    assert not thread.is_alive()
    assert set(taken) == {("/metrics/job/accord-node/instance/0197", TEXT)}
    assert (tmp_path / "accord.prom").read_bytes() == TEXT


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway.example.org:9091",
        "https://user:word@example.org",
        "https://:word@example.org",
        "https://@example.org",
        "gateway:9091",
        "ftp://a",
        "https://a:99999",
    ],
)
def test_what_was_spent_leaves_the_machine_under_tls_only(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        telling(push=url)
    assert caught.value.code == "bad-metrics-push" and "word" not in str(caught.value)


def test_node_exporter_reads_names_that_end_in_prom(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        telling(tmp_path / "accord.txt")
    assert caught.value.code == "bad-metrics-file"
