"""The real registry, in this process, with a world that has joined it and signed."""

import pytest

from tests.server.registry.conftest import certificates, databases, stack, template

__all__ = ["certificates", "databases", "stack", "template"]


@pytest.fixture(scope="session")
def engine() -> str:
    """Which database it has is the registry's own tests' business."""
    return "sqlite"
