"""What every test shares: quiet libraries, and how long the long ones are.

A test marked `soak(sample=n, full=m)` asks for the fixture `size` and gets n in `make test`, with
a seed that never changes, and m in `make soak` (`pytest -m soak --soak`), with a fresh seed that
a failure prints; one with sample=0 is in `make soak` only. There `--seed` repeats what a failure
printed, and `--size` does so much. Property tests marked plain `soak` are sized by hypothesis'
profile instead.
"""

import gc
import os
import secrets
from collections.abc import Iterator
from hashlib import sha256

import pytest
from hypothesis import settings

# Set before torch or flwr is imported, and inherited by every process a test starts: two cores are
# shared by several processes, and nothing here may phone home.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

SAMPLE_SEED = 20260101

# In this order, before all others: a minute each, or files that start federations.
LONGEST = (
    "tests/e2e/test_demo.py",
    "tests/e2e/test_chaos.py",
    "tests/client/cli/test_federation.py",
    "tests/e2e/",
    "tests/web/",
)

settings.register_profile("sample", max_examples=25, derandomize=True, deadline=None)
settings.register_profile("soak", max_examples=2_000, deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="the seed of the tests that take one")
    parser.addoption("--size", type=int, help="how much soak tests do, instead of their full size")
    parser.addoption(
        "--soak", action="store_true", help="run tests marked soak in full, with a fresh seed"
    )
    parser.addoption("--screenshots", help="the folder that pictures of pages go to and stay in")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("soak" if config.getoption("--soak") else "sample")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        items[:] = [item for item in items if not _in_soak_only(item)]
    items.sort(key=_turn)


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported stays: a million objects that no collection need look at again


def _turn(item: pytest.Item) -> int:
    """The longest files first: with what begins last, the other cores have nothing to do."""
    turns = (turn for turn, start in enumerate(LONGEST) if item.nodeid.startswith(start))
    return next(turns, len(LONGEST))


def _in_soak_only(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("soak")
    return marker is not None and marker.kwargs.get("sample") == 0


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the long suites run in full."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture
def size(request: pytest.FixtureRequest, soak: bool) -> int:
    """How much of it this soak test does: its marker's `full`, or its `sample`."""
    marker = request.node.get_closest_marker("soak")
    if marker is None or set(marker.kwargs) != {"sample", "full"}:
        raise pytest.UsageError(
            f"{request.node.nodeid} needs @pytest.mark.soak(sample=..., full=...)"
        )
    if soak and (wanted := request.config.getoption("--size")) is not None:
        return int(wanted)
    return int(marker.kwargs["full" if soak else "sample"])


@pytest.fixture
def seed(request: pytest.FixtureRequest, soak: bool) -> int:
    """A seed for test data, never for anything that protects anybody; shown when the test fails."""
    wanted = request.config.getoption("--seed")
    chosen: int = wanted or (secrets.randbits(32) if soak else SAMPLE_SEED)
    request.node.add_report_section("call", "seed", str(chosen))
    return chosen


@pytest.fixture(scope="module")
def cheap_passphrases() -> Iterator[None]:
    """Passphrases stretched by one hash: what tests seal guards nothing, and scrypt takes 0.3 s.

    In this process only; those that a test starts seal and open as always.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in ("accord_common.sealed_key", "accord_client.sealed_stream"):
            patch.setattr(
                f"{module}.stretch",
                lambda passphrase, salt: sha256(salt + passphrase.encode()).digest(),
            )
        yield
