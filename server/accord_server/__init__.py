"""The registry, the aggregator, and the verbs of coordinators and auditors."""
