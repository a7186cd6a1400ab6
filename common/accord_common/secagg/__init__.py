"""Secure aggregation: messages, mask keys and streams, and the sealed envelope; see SPEC.md."""
