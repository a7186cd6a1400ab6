"""Backups: one file that restores a registry, on either database."""
