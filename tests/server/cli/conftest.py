"""One office for a file of tests: joined, agreed, ready for runs."""

from collections.abc import Iterator

import pytest

from tests.server.cli.office import Office, opened


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with opened(tmp_path_factory.mktemp("office")) as found:
        found.agree()
        yield found
