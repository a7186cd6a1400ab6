"""What nodes and servers share: signed records, cryptography, privacy accounting, wire schemas."""
