"""A task for tests whose rounds send known vectors, and how to install it for processes."""
