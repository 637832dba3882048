"""The subcommands of `instep`: each module has `add_arguments(parser)` and `run(arguments)`."""
