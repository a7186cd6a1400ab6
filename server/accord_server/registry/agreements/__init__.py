"""Agreements: proposed, signed one by one, active, replaced, withdrawn."""
