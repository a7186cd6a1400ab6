"""What runs have cost datasets, by the events in receipts."""
