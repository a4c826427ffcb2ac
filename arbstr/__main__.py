"""``python -m arbstr``: the command ``arbstr``."""

import sys

from arbstr.cli import main

sys.exit(main())
