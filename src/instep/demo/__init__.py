"""What `instep demo` shows, one module a demo: `run(options, ...)`, and the type of the arrays that it steps."""
