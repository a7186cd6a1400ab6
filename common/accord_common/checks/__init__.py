"""What `accord-node check` and `accord doctor` ask alike, each answer one line with its remedy."""
