"""The mitmproxy add-on: options and hooks, the fallback layer, endpoints, the guard."""
