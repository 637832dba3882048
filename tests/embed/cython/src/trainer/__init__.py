"""A trainer in Cython that steps with instep."""
