"""``mitmdump -s arbstr_addon.py``: arbstr as a mitmproxy add-on."""

from arbstr.proxy.addon import Arbstr

addons = [Arbstr()]
