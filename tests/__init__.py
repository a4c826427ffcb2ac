"""The tests of arbstr."""
