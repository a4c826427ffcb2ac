"""The fault suite: a misbehaving upstream, arbstr in front of it, the official client behind."""
