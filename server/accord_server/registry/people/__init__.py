"""Accounts of persons, each of one party."""
