"""The transparency log: its tree, its checkpoints, and what an auditor checks offline."""
