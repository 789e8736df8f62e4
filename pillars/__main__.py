"""`python -m pillars` is the `pillars` command."""

import sys

from pillars.cli import main

if __name__ == "__main__":
    sys.exit(main())
