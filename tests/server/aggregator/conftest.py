"""The real registry, in this process, with a world that has joined it and signed."""

from tests.server.registry.conftest import certificates, stack, template

__all__ = ["certificates", "stack", "template"]
