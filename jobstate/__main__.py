"""`python -m jobstate`: the command line, which is in `jobstate.cli`."""

import sys

from jobstate.cli import main

if __name__ == "__main__":
    sys.exit(main())
