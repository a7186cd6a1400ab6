"""The registry's API as data and as a client: the only schemas of it that exist."""
