"""Bytes by their SHA-256: models."""
