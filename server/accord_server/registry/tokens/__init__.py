"""Tokens of persons, with scopes and an end."""
