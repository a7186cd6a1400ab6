"""The steward's own page: the node's files in a browser of the same person on the same machine."""
