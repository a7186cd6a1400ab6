"""The `accord-node` console script: what an institution's steward and IT do."""

from accord_client.cli.app import main as main
