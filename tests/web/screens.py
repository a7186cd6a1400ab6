"""Pages on a screen: who looks, in which language and light, and what must hold of each page."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page

Tongue = Literal["en", "zh-Hans"]
Light = Literal["light", "dark"]
TONGUES, LIGHTS = get_args(Tongue), get_args(Light)
WIDTHS = (360, 1440)  # pixels: a small phone, a desk
HEIGHT = 900
_LOCALES: dict[Tongue, str] = {"en": "en-GB", "zh-Hans": "zh-CN"}
_GRAVE = ("serious", "critical")
_CLIPPED = (Path(__file__).parent / "clipped.js").read_text()
_TIMES = """() => {
  const shown = [...document.querySelectorAll("time[datetime]")].map((one) => one.textContent);
  const rest = document.body.cloneNode(true);
  const apart = "time, pre, code, bdi, .said, .prose, script";
  rest.querySelectorAll(apart).forEach((one) => one.remove());
  return [shown, rest.textContent];
}"""
_UTC = r" \([0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2})? UTC\)"
_LOCAL = {
    "en": re.compile(rf"[A-Z][a-z]{{2}} [0-9]{{1,2}}, [0-9]{{4}}(, [0-9:]+\s[AP]M)?{_UTC}"),
    "zh-Hans": re.compile(rf"[0-9]{{4}}年[0-9]{{1,2}}月[0-9]{{1,2}}日( [0-9:]+)?{_UTC}"),
}
_DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@dataclass
class Person:
    """Somebody at a browser of their own, in one language; everything the browser asks is noted."""

    origin: str
    context: BrowserContext
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @cached_property
    def page(self) -> Page:
        """Their one tab: another for each page would start a process each time."""
        return self.context.new_page()

    def __post_init__(self) -> None:
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.context.on("response", self._answered)
        self.context.on("requestfailed", self._failed)
        self.context.on("weberror", lambda error: self.said.append(f"script: {error.error}"))
        self.context.on("console", self._heard)

    def open(self, address: str, light: Light = "light", status: int = 200) -> Page:
        """Their tab, at a path."""
        page = self.page
        page.set_viewport_size({"width": WIDTHS[-1], "height": HEIGHT})
        page.emulate_media(color_scheme=light)
        self.said.clear()
        answer = page.goto(self.origin + address)
        assert answer is not None and answer.status == status, f"{address}: {answer}"
        if status != 200:
            self.said.remove(f"{status}: {answer.url}")
        return page

    def require_quiet(self) -> None:
        """Nothing was asked of another host, and neither script nor policy complained."""
        assert self.asked, "the browser asked for nothing at all"
        foreign = [url for url in self.asked if not url.startswith(f"{self.origin}/")]
        assert not foreign, f"asked of another host: {foreign}"
        assert not self.said, self.said
        self.asked.clear()

    def _heard(self, message: Any) -> None:
        answered = message.text.startswith("Failed to load resource")  # `_answered` says which
        if message.type in ("error", "warning") and not answered:
            self.said.append(f"{message.type}: {message.text}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.said.append(f"{response.status}: {response.url}")

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # what a page had asked for when it was left
            self.said.append(f"{request.failure}: {request.url}")


def sit_down(
    browser: Browser, origin: str, tongue: Tongue, cookies: dict[str, str] | None = None
) -> Person:
    """A browser for one person: signed in already where there are cookies."""
    context = browser.new_context(locale=_LOCALES[tongue], timezone_id="Europe/Berlin")
    context.set_default_timeout(30_000)
    context.add_cookies(
        [{"name": name, "value": value, "url": origin} for name, value in (cookies or {}).items()]
    )
    return Person(origin, context)


def require_accessible(page: Page) -> None:
    """No problem that axe calls serious or critical."""
    page.evaluate(AXE_SCRIPT)
    told = page.evaluate("axe.run({resultTypes: ['violations']})")
    grave = [
        f"{rule['id']} ({rule['impact']}): {rule['help']}: "
        + "; ".join(f"{node['target']} {node['html'][:200]}" for node in rule["nodes"][:5])
        for rule in told["violations"]
        if rule["impact"] in _GRAVE
    ]
    assert not grave, f"{page.url}: {json.dumps(grave, indent=1, ensure_ascii=False)}"
    assert told["passes"], "axe found nothing to look at"


def require_times(page: Page, tongue: Tongue) -> None:
    """Each time is local, as its language writes it, with UTC beside it; no other is there."""
    shown, rest = page.evaluate(_TIMES)
    for text in shown:
        assert _LOCAL[tongue].fullmatch(text), f"{page.url}: {text}"
    bare = re.findall(r".{0,30}[0-9]{4}-[0-9]{2}-[0-9]{2}.{0,30}", rest)
    assert not bare, f"{page.url}: {bare}"


def require_fit(page: Page, width: int) -> None:
    """Nothing overflows or is clipped at a width in pixels, with all details open."""
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    page.evaluate(_DRAWN)
    unfit = page.evaluate(_CLIPPED)
    assert not unfit, f"{page.url} at {width} px: {json.dumps(unfit, indent=1, ensure_ascii=False)}"


Sitting = Callable[[str, Tongue], Person]  # whoever has this role, in this language
