"""`network.json` and the environment: which outweighs which, and what is refused."""

import json
from pathlib import Path

import pytest

from accord_common.errors import FormatError, UsageError
from accord_common.network.route import Proxy
from accord_common.network.settings import FILE_NAME, Network, NetworkFile

HOST = "registry.example.org"


def routed(folder: Path, host: str = HOST, **environment: str) -> Proxy | None:
    return Network.of(folder, environment).route(host, 443)


def login(folder: Path, **environment: str) -> tuple[str, str] | None:
    proxy = routed(folder, **environment)
    assert proxy is not None
    return proxy.login


def secret(path: Path, text: str = "anna:a:b\n", mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_the_environment_routes_and_lower_case_outweighs(tmp_path: Path) -> None:
    assert routed(tmp_path) is None
    upper = routed(tmp_path, HTTPS_PROXY="http://upper:1")
    assert upper is not None and upper.host == "upper" and upper.source == "$HTTPS_PROXY"
    both = routed(tmp_path, HTTPS_PROXY="http://upper:1", https_proxy="http://lower:1")
    assert both is not None and both.host == "lower"
    for name in ("NO_PROXY", "no_proxy"):
        assert routed(tmp_path, HTTPS_PROXY="http://p:1", **{name: "a.b, example.org"}) is None
    assert routed(tmp_path, ALL_PROXY="http://p:1", HTTP_PROXY="http://p:1") is None


def test_the_folder_outweighs_the_environment(tmp_path: Path) -> None:
    NetworkFile(proxy="http://own:1", no_proxy=()).save(tmp_path)
    found = routed(tmp_path, HTTPS_PROXY="http://p:1", NO_PROXY="*")
    assert found is not None and found.host == "own" and found.source == FILE_NAME
    NetworkFile(proxy="direct").save(tmp_path)
    assert routed(tmp_path, HTTPS_PROXY="http://p:1") is None
    NetworkFile(no_proxy=("example.org",)).save(tmp_path)
    assert routed(tmp_path, HTTPS_PROXY="http://p:1") is None
    assert routed(tmp_path, "example.net", HTTPS_PROXY="http://p:1") is not None


def test_a_login_comes_from_file_environment_or_url(tmp_path: Path) -> None:
    url = "http://url:pw@p:1"
    assert login(tmp_path, HTTPS_PROXY=url, ACCORD_PROXY_LOGIN="x:y") == ("url", "pw")
    assert login(tmp_path, HTTPS_PROXY="p:1", ACCORD_PROXY_LOGIN="x:y") == ("x", "y")
    assert login(tmp_path, HTTPS_PROXY="p:1") is None
    NetworkFile(login_file=secret(tmp_path / "login")).save(tmp_path)
    assert login(tmp_path, HTTPS_PROXY=url) == ("anna", "a:b")


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("hidden", 0o600, "one line"),
        ("u:hidden\nmore", 0o600, "one line"),
        ("u:hidden", 0o640, "mode 640"),
    ],
)
def test_a_login_file_that_does_not_hold_is_refused_without_its_content(
    tmp_path: Path, text: str, mode: int, said: str
) -> None:
    with pytest.raises(UsageError, match="bad-proxy-login") as refused:
        NetworkFile(proxy="p:1", login_file=secret(tmp_path / "l", text, mode)).save(tmp_path)
    assert said in str(refused.value) and "hidden" not in str(refused.value)
    assert not (tmp_path / FILE_NAME).exists()
    with pytest.raises(UsageError, match="bad-proxy-login"):
        NetworkFile(proxy="p:1", login_file=str(tmp_path / "gone")).save(tmp_path)


def test_a_password_is_never_written_into_the_setting(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="proxy-password-in-setting") as refused:
        NetworkFile(proxy="http://anna:hidden@p:1").save(tmp_path)
    assert "hidden" not in str(refused.value) and not (tmp_path / FILE_NAME).exists()


def test_a_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("# Firmenzertifikat, grün\n")
    for name in ("empty.pem", "gone.pem"):
        with pytest.raises(UsageError, match="bad-ca-bundle") as refused:
            NetworkFile(ca_bundle=str(tmp_path / name)).save(tmp_path)
        assert name in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", '{"proxi": null}', '{"proxy": 1}', "\xff"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match="bad-network") as refused:
        Network.of(tmp_path, {})
    assert str(tmp_path / FILE_NAME) in str(refused.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = NetworkFile(proxy="http://p:1", no_proxy=("a", "10.0.0.0/8"), ca_bundle="system")
    written.save(tmp_path)
    assert NetworkFile.load(tmp_path) == written
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / FILE_NAME).read_text())["proxy"] == "http://p:1"
