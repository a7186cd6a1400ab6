"""Who may do what: one table, and what guards the doors."""
