"""Aggregators' offers, for coordinators to choose from."""
