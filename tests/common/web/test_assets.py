"""Files that pages load."""

import gzip
import hashlib
import json
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from starlette.requests import Request

from accord_common.errors import DamageError
from accord_common.web.assets import PREFIX, Assets
from accord_common.web.serving import serve

STATIC = files("accord_common.web") / "static"
VENDORED = json.loads((STATIC / "vendored/VENDORED.json").read_text())


def asked(path: str, encoding: str = "") -> Request:
    headers = [(b"accept-encoding", encoding.encode())]
    return Request({"type": "http", "method": "GET", "path": path, "headers": headers})


def test_an_address_names_the_content() -> None:
    served = Assets()
    for name in ("accord.css", "accord.js", "theme.js", "icons.svg", "vendored/htmx.min.js"):
        url = served.url(name)
        body = (STATIC / name).read_bytes()
        assert url == f"{PREFIX}{hashlib.sha256(body).hexdigest()[:16]}/{name}"
        found = served.at(url)
        assert found is not None and found.body == body


@pytest.mark.parametrize(
    "path",
    [
        "/assets/accord.css",
        "/assets/0000000000000000/accord.css",
        "/assets/../errors.py",
        "/assets/0000000000000000/../../languages.py",
        "/assets/vendored/VENDORED.json",
        "/assets/",
    ],
)
def test_nothing_else_has_an_address(path: str) -> None:
    assert serve(Assets(), asked(path)).status_code == 404


def test_a_file_is_kept_for_ever_and_goes_out_small() -> None:
    served = Assets()
    url = served.url("vendored/echarts.common.min.js")
    plain, small = serve(served, asked(url)), serve(served, asked(url, "br, gzip"))
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-encoding" not in plain.headers and small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(small.body)) == plain.body
    assert len(small.body) < len(plain.body) / 2
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"


def test_a_vendored_file_that_was_altered_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "static"
    with as_file(STATIC) as original:
        shutil.copytree(original, copy)
    monkeypatch.setattr("accord_common.web.assets.files", lambda package: tmp_path)
    Assets()
    with (copy / "vendored/htmx.min.js").open("ab") as file:
        file.write(b" ")
    with pytest.raises(DamageError, match=r"\[asset-altered\].*htmx"):
        Assets()


def test_every_vendored_file_is_declared_with_its_licence() -> None:
    scripts = {item.name for item in (STATIC / "vendored").iterdir() if item.name.endswith(".js")}
    assert {item["file"] for item in VENDORED} == scripts
    for item in VENDORED:
        assert item["version"] in item["source"]
        assert len((STATIC / "vendored" / item["licence_file"]).read_text()) > 500


def test_our_own_files_name_no_other_host() -> None:
    for name in ("accord.css", "accord.js", "theme.js", "icons.svg", "mark.svg"):
        text = (STATIC / name).read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"(?:https?:)?//[a-z]", text), name
