"""`accord demo`: hospitals train one model, through the two console scripts alone."""
