"""Certificate authorities: what is offered, and who trusts what."""
