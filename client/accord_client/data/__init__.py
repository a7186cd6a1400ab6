"""An institution's own rows: files under a declared schema, and Poisson samples of them."""
