"""What the coordinator does before, during and after a run."""
