"""The registry's pages with 10^5 rounds stored: how soon one sees something, and something new.

`pages-<name>`, of `tests.web.pages`: seconds from navigation to first contentful paint (W3C Paint
Timing) in the system's Chromium over loopback, the median of several loads with the browser's cache
warm; `cold_s` is the first load of a browser that was never there. `pages-follow`: seconds from the
moment the aggregator begins to post a round's receipt until the open page of its run shows that
round.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser

from accord_common.tls import trusting
from accord_server.registry.db import Database
from accord_server.registry.settings import Settings
from tests.benchmarks.api_data import ROUNDS, fill, lengthen
from tests.benchmarks.row import Row
from tests.web.chromium import launched
from tests.web.pages import EXAMPLES, Example
from tests.web.place import PILOT_ATTEMPTS, Place, furnish
from tests.web.screens import Person, sit_down

RUNS = 100  # of a thousand rounds each; the completed run that is looked at gets as many rows
LOADS, FOLLOWED = 7, 10
PAINTED_S, FOLLOWED_S = 0.4, 1.0  # what they are held to
_REGISTRY = "from accord_server.cli import main; main()"
_PAINT = """() => new Promise(done => new PerformanceObserver(seen => {
  const [first] = seen.getEntriesByName("first-contentful-paint");
  if (first) done([first.startTime, performance.getEntriesByType("navigation")[0].responseStart]);
}).observe({type: "paint", buffered: true}))"""
_SHOWN = """round => { window.shown = new Promise(done => {
  const look = () => {
    const words = document.querySelector("#live .lead .big").textContent;
    if (words.includes(` ${round} `)) done(Date.now()); else requestAnimationFrame(look);
  };
  look();
}); }"""


def run() -> Iterator[Row]:
    """Yield a row for each page, then `pages-follow`."""
    folder = Path(tempfile.mkdtemp(prefix="accord-bench-"))
    try:
        place = furnish(folder)
        asyncio.run(_store(place))
        with _serving(place.settings), launched(place.settings.certificate) as browser:
            for example in (one for one in EXAMPLES if one.at == "registry"):
                yield _painted(browser, place, example)
            yield _followed(browser, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _store(place: Place) -> None:
    assert place.course is not None
    actor = place.world.hospitals[0]
    receipt = place.world.node_receipt(
        actor, place.course.manifest, place.course.heads[actor.id], place.course.round
    )
    database = Database(place.settings.database)
    try:
        await fill(database, place.world, receipt.to_bytes(), RUNS)
        await lengthen(database, place.world, place.names["run"], PILOT_ATTEMPTS)
    finally:
        await database.close()


@contextmanager
def _serving(settings: Settings) -> Iterator[None]:
    """The registry as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _REGISTRY, "registry", "start", "--home", str(settings.home)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(verify=trusting(settings.ca.read_bytes())) as client:
            end = time.monotonic() + 60
            while True:
                try:
                    client.get(f"{settings.url}/livez").raise_for_status()
                    break
                except httpx.HTTPError:
                    if process.poll() is not None or time.monotonic() > end:
                        raise
        yield
    finally:
        process.terminate()
        process.wait(30)


def _painted(browser: Browser, place: Place, example: Example) -> Row:
    person = _person(browser, place, example)
    cold, _ = _load(person, place, example)
    loads = [_load(person, place, example) for _ in range(LOADS)]
    person.context.close()
    paints = sorted(paint for paint, _ in loads)
    return Row(
        f"pages-{example.name}",
        round(statistics.median(paints), 3),
        "s",
        against="bound",
        against_value=PAINTED_S,
        extra={
            "cold_s": round(cold, 3),
            "worst_s": round(paints[-1], 3),
            "answered_s": round(statistics.median(answered for _, answered in loads), 3),
            "rounds": RUNS * ROUNDS,
        },
    )


def _person(browser: Browser, place: Place, example: Example) -> Person:
    cookies = place.cookies.get(example.role or "")
    return sit_down(browser, place.origin, "en", cookies)


def _load(person: Person, place: Place, example: Example) -> tuple[float, float]:
    """Seconds to first contentful paint, and to the answer's first byte."""
    page = person.open(example.address(place), status=example.status)
    paint, answered = page.evaluate(_PAINT)
    return paint / 1000, answered / 1000


def _followed(browser: Browser, place: Place) -> Row:
    assert place.course is not None
    person = sit_down(browser, place.origin, "en", place.cookies["coordinator"])
    page = person.open(f"/runs/{place.course.run}")
    with place.clients() as clients:
        lags = []
        for _ in range(FOLLOWED):
            page.evaluate(_SHOWN, place.course.round + 1)
            place.course.play(clients)
            lags.append(page.evaluate("window.shown") / 1000 - place.course.posted)
    person.context.close()
    return Row(
        "pages-follow",
        round(statistics.median(lags), 3),
        "s",
        against="bound",
        against_value=FOLLOWED_S,
        extra={"worst_s": round(max(lags), 3), "followed": FOLLOWED},
    )
