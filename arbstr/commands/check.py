"""``arbstr check``: everything that is wrong in the config, one line each; or that nothing is."""

from __future__ import annotations

import argparse
import os
import sys

from arbstr.commands.settings import config_path
from arbstr.config import Config, ConfigError, load
from arbstr.report import show_text


def run(args: argparse.Namespace) -> int:
    """Check the config. Problems and warnings go to standard error."""
    try:
        config = load(config_path(args), os.environ)
    except ConfigError as error:
        sys.stderr.writelines(f"{show_text(problem)}\n" for problem in error.problems)
        return 1
    sys.stderr.writelines(f"warning: {show_text(warning)}\n" for warning in config.warnings)
    sys.stdout.write(f"{config.path}: ok\n")
    sys.stdout.writelines(f"  {line}\n" for line in summary(config))
    return 0


def summary(config: Config) -> list[str]:
    """What is in the config, in a few lines."""
    server, rules = config.server, config.policies.rules
    host = f"[{server.listen_host}]" if ":" in server.listen_host else server.listen_host
    names = ", ".join(p.name for p in config.providers)
    policies = ", ".join(r.name for r in rules) or "none"
    default = config.policies.default
    keep = config.database.retention_days
    return [
        f"listens on  {host}:{server.listen_port}" + (", with a token" * bool(server.auth_token)),
        f"providers   {names}",
        f"models      {len(config.models)} in the file" + _synced(config),
        f"policies    {policies}; default: {default or 'none'}",
        f"ledger      {config.database.path}; rows stay {f'{keep} days' if keep else 'for ever'}",
    ]


def _synced(config: Config) -> str:
    synced = [p.name for p in config.providers if p.sync_s is not None]
    return f"; more from {', '.join(synced)}" if synced else ""
