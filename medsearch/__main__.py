"""``python -m medsearch``: the same as the ``medsearch`` command."""

import sys

from medsearch.cli import main

if __name__ == "__main__":
    sys.exit(main())
