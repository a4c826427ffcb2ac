"""The decisions, pure: no network, no disk, and the time is an argument."""
