"""``python -m madang.cli``: the command without its script."""

import sys

from madang.cli.main import main

sys.exit(main())
