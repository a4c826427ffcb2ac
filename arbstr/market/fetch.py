"""Getting a provider's model list."""

from __future__ import annotations

import urllib.request

from arbstr.config import Provider

_TIMEOUT_S = 20.0
_LARGEST_BYTES = 32 << 20


def fetch(provider: Provider) -> bytes:
    """Get a provider's ``/models``; it needs no key. Blocks. Raises OSError, http.HTTPException."""
    request = urllib.request.Request(  # noqa: S310 - http and https only, says the config
        f"{provider.url}/models", headers={"accept": "application/json", "user-agent": "arbstr"}
    )
    opener = urllib.request.build_opener(_NoRedirect())
    with opener.open(request, timeout=_TIMEOUT_S) as response:
        body: bytes = response.read(_LARGEST_BYTES + 1)
    if len(body) > _LARGEST_BYTES:
        raise OSError(f"the model list is larger than {_LARGEST_BYTES:,} bytes")
    return body


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A provider is where the config says it is."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None
