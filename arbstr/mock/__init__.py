"""An embedded Routstr node on loopback, to try arbstr without a key or a network."""

from arbstr.mock.faults import FAULTS, Fault
from arbstr.mock.models import MockModel
from arbstr.mock.node import DEFAULT_KEY, MockNode
from arbstr.mock.seen import Seen
from arbstr.mock.stock import DEFAULT_MODELS, FAULT_MODELS
from arbstr.mock.thread import ThreadedNode

__all__ = [
    "DEFAULT_KEY",
    "DEFAULT_MODELS",
    "FAULTS",
    "FAULT_MODELS",
    "Fault",
    "MockModel",
    "MockNode",
    "Seen",
    "ThreadedNode",
]
