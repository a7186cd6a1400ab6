"""Signed records: verified, appended, projected, rebuilt."""
