"""Signing in, second factors, and what a browser then holds."""
