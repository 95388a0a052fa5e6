"""The command line: flags, configs, exit codes."""
