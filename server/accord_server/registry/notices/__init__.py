"""What people tell each other at the registry, and what it tells those who are not looking."""
