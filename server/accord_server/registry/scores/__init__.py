"""Metrics of a run's models on public rows, round by round, as the coordinator tells them."""
