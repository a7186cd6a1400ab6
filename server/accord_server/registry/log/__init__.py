"""The transparency log: subtree hashes, checkpoints, proofs."""
