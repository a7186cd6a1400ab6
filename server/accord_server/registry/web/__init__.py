"""The registry's pages: each a reading of what the API gives its caller, and nothing more."""
