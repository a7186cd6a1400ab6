"""`accord demo`: three hospitals train one model, through the two console scripts alone."""
