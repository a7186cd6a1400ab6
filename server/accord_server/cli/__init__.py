"""The `accord` console script: registry, aggregator, and the coordinator's and auditor's verbs."""

from accord_server.cli.app import main as main
