"""Privacy events, what they cost, and the filter that stops at a cap."""
