"""arbstr: a local proxy that sends each AI request to the cheapest Routstr model that can do it."""

__version__ = "0.1.0"
