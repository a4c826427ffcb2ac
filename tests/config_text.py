"""Loading a text as if it were the user's config.toml; shared by the tests of the config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from arbstr.config import Config, ConfigError, load

KEY = "sk-abcdefghijklmnop"
PROVIDER = '[[providers]]\nname = "a"\nurl = "https://a.example/v1"\n'


def load_text(
    folder: Path, text: str, env: Mapping[str, str] | None = None, mock_url: str | None = None
) -> Config:
    """Load `text` as the config.toml of `folder`, which only its owner can read."""
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return load(path, env or {}, mock_url=mock_url)


def problems(
    folder: Path, text: str | bytes, env: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Everything wrong with `text`, without the file's name, which every line must begin with."""
    path = folder / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(path, env or {})
    found = caught.value.problems
    assert str(caught.value) == "\n".join(found)
    assert all(line.startswith(f"{path}: ") and line.isprintable() for line in found)
    return tuple(line.removeprefix(f"{path}: ") for line in found)
