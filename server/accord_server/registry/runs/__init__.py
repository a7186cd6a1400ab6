"""Runs as their records tell, and what keeps them going: leases, events, stops."""
