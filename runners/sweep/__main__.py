"""``python -m runners.sweep sweep=NAME``."""

import sys

from runners.sweep.sweep import main

sys.exit(main())
