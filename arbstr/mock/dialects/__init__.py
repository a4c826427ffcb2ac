"""How an answer looks in each API, key by key as the node writes it (captures of the same name).

The modules only render: what is billed, and when, is decided elsewhere.
"""
