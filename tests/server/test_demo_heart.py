"""Fetching a data set, and what the demonstration makes of the heart files."""

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from accord_common import schema_file
from accord_common.errors import AccordError, TransportError, UsageError, VerificationError
from accord_common.tables import encode, read
from accord_server.demo import downloads, scenario
from accord_server.demo.downloads import DataSet
from tests import public_data
from tests.server.cli.office import accord

CONTENT = {"north": b"63.0,1.0\n", "south": b"41.0,0.0\n"}
SET = DataSet(
    name="sample",
    url="http://127.0.0.1:1/nowhere",
    files={key: hashlib.sha256(text).hexdigest() for key, text in CONTENT.items()},
    pattern="rows.{}.data",
)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server of its own, and the folder that it serves."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for key, text in CONTENT.items():
        (folder / f"rows.{key}.data").write_bytes(text)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def test_what_is_fetched_is_whole_checked_and_not_fetched_again(
    mirror: tuple[str, Path], tmp_path: Path
) -> None:
    url, _ = mirror
    folder = tmp_path / "sets"
    assert [new for _, new in downloads.fetch(SET, folder, url)] == [True, True]
    assert {key: downloads.read(SET, key, folder) for key in CONTENT} == CONTENT
    SET.path("south", folder).write_bytes(b"42.0,0.0\n")
    with pytest.raises(VerificationError) as changed:
        downloads.read(SET, "south", folder)
    assert changed.value.code == "data-set-changed"
    assert [new for _, new in downloads.fetch(SET, folder, f"{url}/")] == [False, True]
    assert downloads.read(SET, "south", folder) == CONTENT["south"]


@pytest.mark.parametrize("wrong", [b"63.0,0.0\n", b"", b"0" * (downloads.LARGEST + 1)])
def test_other_bytes_are_refused_and_nothing_of_them_stays(
    mirror: tuple[str, Path], tmp_path: Path, wrong: bytes
) -> None:
    url, served = mirror
    (served / "rows.south.data").write_bytes(wrong)
    with pytest.raises(VerificationError) as refused:
        list(downloads.fetch(SET, tmp_path / "sets", url))
    assert refused.value.code == "data-set-changed"
    left = [path.name for path in (tmp_path / "sets" / "sample").iterdir()]
    assert left == ["rows.north.data"]


def test_offline_absent_or_misspelt_says_what_to_do(
    mirror: tuple[str, Path], tmp_path: Path
) -> None:
    url, _ = mirror
    for address in ("", f"{url}/elsewhere", "ftp://example.org", "no address"):
        with pytest.raises(TransportError) as offline:
            list(downloads.fetch(SET, tmp_path, address))
        assert offline.value.code == "data-set-unreachable"
        assert "--url" in offline.value.hint
    with pytest.raises(UsageError) as absent:
        downloads.read(SET, "north", tmp_path)
    assert absent.value.code == "no-data-set" and "accord data fetch heart" in absent.value.hint


def test_the_verbs_name_a_folder_without_data_before_anything_starts(tmp_path: Path) -> None:
    asked = ("demo", "--data", "heart", "--home", str(tmp_path / "demo"), "--format", "json")
    answer = accord(*asked, "--data-dir", str(tmp_path))
    assert answer.code == 2
    assert json.loads(answer.err)["error"]["code"] == "no-data-set"
    assert not (tmp_path / "demo").exists()
    verb = ("data", "fetch", "heart", "--data-dir", str(tmp_path), "--format", "json")
    answer = accord(*verb, "--url", "http://127.0.0.1:1")
    assert answer.code == 4
    assert json.loads(answer.err)["error"]["code"] == "data-set-unreachable"


def heart() -> scenario.Scenario:
    try:
        return scenario.heart_disease(public_data.folder("heart_disease").parent)
    except public_data.Absent as error:
        pytest.skip(str(error))


def test_four_hospitals_share_a_schema_that_none_of_their_rows_is_needed_for() -> None:
    made = heart()
    agreed = schema_file.from_document(yaml.safe_load(made.schema))
    rows = []
    for share in made.shares:
        table = encode(read(share.table.encode(), "csv", agreed), agreed)
        assert table.features.shape[1] == 13 and table.rows <= share.size < table.rows + 10
        rows.append(table.rows)
    assert rows == [199, 172, 30, 85]
    tests = {
        site: encode(read(text.encode(), "csv", agreed), agreed).rows
        for site, text in made.tests.items()
    }
    assert tests == {"Cleveland": 104, "Budapest": 89, "Switzerland": 16, "Long Beach": 45}
    assert encode(read(made.holdout.encode(), "csv", agreed), agreed).rows == 254


def test_both_demonstrations_have_the_same_fields(tmp_path: Path) -> None:
    first, second = scenario.tumours(tmp_path), heart()
    assert first.plan.keys() == second.plan.keys()
    assert (first.cap, second.cap) == ("3", "4")
    for made in (first, second):
        assert float(made.plan["epsilon"]) < float(made.cap)
        assert made.delta < 1 / max(share.size for share in made.shares)


def test_a_changed_file_of_uci_is_refused(tmp_path: Path) -> None:
    for key in downloads.HEART.files:
        path = downloads.HEART.path(key, tmp_path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0\n")
    with pytest.raises(AccordError) as refused:
        scenario.heart_disease(tmp_path)
    assert refused.value.code == "data-set-changed"
