"""One module a command, each with ``main(options) -> exit code``; imported when the command runs."""
