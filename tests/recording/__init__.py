"""Every byte that a process sends, in plaintext, and how to read it."""
