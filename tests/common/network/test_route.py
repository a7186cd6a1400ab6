"""Who is reached through a proxy, and what is said of it."""

import pytest

from accord_common.errors import UsageError
from accord_common.network.route import is_direct, parse_proxy


@pytest.mark.parametrize(
    ("host", "port", "entries", "direct"),
    [
        ("registry.example.org", 443, [], False),
        ("registry.example.org", 443, ["*"], True),
        ("registry.example.org", 443, ["example.org"], True),
        ("registry.example.org", 443, [".example.org"], True),
        ("registry.example.org", 443, ["*.example.org"], True),
        ("Registry.Example.Org.", 443, [" EXAMPLE.org "], True),
        ("example.org", 443, [".example.org"], True),
        ("badexample.org", 443, ["example.org"], False),
        ("registry.example.org", 443, ["registry.example.org:443"], True),
        ("registry.example.org", 8443, ["registry.example.org:443"], False),
        ("10.1.2.3", 443, ["10.0.0.0/8"], True),
        ("11.1.2.3", 443, ["10.0.0.0/8"], False),
        ("10.1.2.3", 443, ["10.1.2.3"], True),
        ("10.1.2.3", 443, ["10.1.2.3:443"], True),
        ("10.1.2.3", 9092, ["10.1.2.3:443"], False),
        ("10.1.2.3", 443, ["2.3", ".3", "10.1.2.30", "10.0.0.0/99", "", "10.1.2"], False),
        ("2001:db8::7", 443, ["2001:db8::/32"], True),
        ("2001:db8::7", 443, ["2001:0db8:0::7"], True),
        ("[2001:db8::7]", 443, ["[2001:db8::7]:443"], True),
        ("2001:db8::7", 80, ["[2001:db8::7]:443"], False),
        ("registry.example.org", 443, ["10.0.0.0/8"], False),
        ("127.0.0.1", 443, [], True),
        ("127.9.9.9", 443, [], True),
        ("::1", 443, [], True),
        ("localhost", 443, [], True),
        ("localhost.example.org", 443, [], False),
    ],
)
def test_who_needs_no_proxy(host: str, port: int, entries: list[str], direct: bool) -> None:
    assert is_direct(host, port, entries) is direct


@pytest.mark.parametrize(
    ("text", "address", "login"),
    [
        ("http://proxy.example.org:8080", "http://proxy.example.org:8080", None),
        ("http://proxy.example.org:8080/", "http://proxy.example.org:8080", None),
        ("proxy.example.org:8080", "http://proxy.example.org:8080", None),
        ("proxy.example.org", "http://proxy.example.org:3128", None),
        ("http://[2001:db8::7]:8080", "http://[2001:db8::7]:8080", None),
        ("http://anna:s%40crt@proxy:8080", "http://proxy:8080", ("anna", "s@crt")),
    ],
)
def test_a_proxys_address(text: str, address: str, login: tuple[str, str] | None) -> None:
    proxy = parse_proxy(text, "here")
    assert (proxy.address, proxy.login) == (address, login)
    assert "crt" not in repr(proxy)


@pytest.mark.parametrize(
    "text",
    [
        "https://anna:hidden@proxy:1",
        "socks5://anna:hidden@proxy:1",
        "http://anna:hidden@proxy:port",
        "http://anna:hidden@",
        "http://anna:hidden@proxy/path",
        "http://anna:hidden@proxy:1?x",
    ],
)
def test_what_is_no_http_proxy_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(UsageError, match="bad-proxy") as refused:
        parse_proxy(text, "$HTTPS_PROXY")
    assert "hidden" not in str(refused.value) and "$HTTPS_PROXY" in str(refused.value)
