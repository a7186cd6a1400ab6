"""What may befall a process: death at a named step, a full disk, a wrong clock, a cut line."""
