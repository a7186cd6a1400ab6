"""The institution-side node: consent, data, training, privacy ledger, masking."""
