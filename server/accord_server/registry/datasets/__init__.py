"""Datasets that holders registered, without any row."""
