"""The registry: partners, agreements, runs and budgets, projected from signed records."""
