"""Numbers, times and pages."""

from datetime import datetime, timedelta, timezone

import pytest
from jinja2 import UndefinedError

from accord_common.web.formats import NOTHING, Formats
from accord_common.web.languages import LANGUAGES
from accord_common.web.looks import look
from accord_common.web.rendering import HEADERS, Pages

ENGLISH, CHINESE = LANGUAGES["en"], LANGUAGES["zh-Hans"]
VALUES = {
    "product": "Accord registry",
    "nav": [("/", "running")],
    "here": "/",
    "person": None,
    "csrf": "",
    "events": None,
}


def test_formats() -> None:
    english, chinese = Formats(ENGLISH), Formats(CHINESE)
    assert english.number(1_234_567) == "1,234,567"
    spent = [english.epsilon(value) for value in (1, "2.341", "Infinity", None)]
    assert spent == ["1.00", "2.35", "∞", NOTHING]  # never less than it is
    sizes = [english.size(count) for count in (0, 1023, 1024, 5 << 20)]
    assert sizes == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB"]
    assert english.span(timedelta(seconds=90)) == "2 minutes" and chinese.span(7200) == "2小时"
    assert english.share(0.256) == "26%"


def test_a_time_is_utc_and_a_hash_is_whole() -> None:
    formats = Formats(ENGLISH)
    noon = datetime(2026, 5, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    assert formats.moment(noon) == (
        '<time datetime="2026-05-01T12:00:00+00:00">2026-05-01 12:00 UTC</time>'
    )
    assert formats.short("ab" * 32) == f'<code class="hash" title="{"ab" * 32}">{"ab" * 6}</code>'
    assert formats.short('"><script>') == (
        '<code class="hash" title="&#34;&gt;&lt;script&gt;">&#34;&gt;&lt;script&gt;</code>'
    )
    assert formats.short(None) == formats.moment(None) == NOTHING


def test_a_page_speaks_its_language_and_escapes() -> None:
    pages = Pages([])
    hostile = {**VALUES, "person": "<script>alert(1)</script>", "product": "A & B"}
    english, chinese = (pages.render("base.html", which, **hostile) for which in (ENGLISH, CHINESE))
    assert '<html lang="en">' in english and '<html lang="zh-Hans">' in chinese
    assert "Skip to the content" in english and "跳到正文" in chinese and ">运行中</a>" in chinese
    for page in (english, chinese):
        assert "<script>alert" not in page and "A &amp; B" in page
        assert "style=" not in page and "onclick" not in page  # the policy would refuse them


def test_a_name_that_is_missing_is_an_error() -> None:
    without = {key: value for key, value in VALUES.items() if key != "product"}
    with pytest.raises(UndefinedError, match="product"):
        Pages([]).render("base.html", ENGLISH, **without)


def test_the_policy_allows_the_host_alone() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy


def test_a_state_that_nobody_described_is_shown_by_its_name() -> None:
    assert look("completed").tone == "good"
    assert (look("brand-new").words, look("brand-new").tone) == ("brand-new", "off")
