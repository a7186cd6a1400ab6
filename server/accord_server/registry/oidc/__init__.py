"""Signing in through an institution's own OpenID provider."""
