"""A module a rule: its class, and its function with the NumPy twin."""
