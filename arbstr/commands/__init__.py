"""The commands, one a module: each takes its parsed arguments and gives an exit code."""
