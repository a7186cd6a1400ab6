"""Local training with differential privacy: noise, the step, a round."""
