"""An optimizer's state as plain dicts and as a file that says when it is damaged."""
