"""Drives federated rounds over Flower and only ever sees masked sums."""
