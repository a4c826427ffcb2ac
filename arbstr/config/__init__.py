"""The config file: TOML in, frozen values out, or every error at once with file and key."""

from arbstr.config.addresses import is_loopback
from arbstr.config.load import ConfigError, default_path, load, load_database
from arbstr.config.settings import Config, Database, Fallback, Limits, Provider, Server

__all__ = [
    "Config",
    "ConfigError",
    "Database",
    "Fallback",
    "Limits",
    "Provider",
    "Server",
    "default_path",
    "is_loopback",
    "load",
    "load_database",
]
