"""Fuzzing: what comes from outside, in any shape, leads to an answer. `scripts/fuzz.py` runs it."""
