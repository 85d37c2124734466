"""`python -m powervisor`: the same as the `powervisor` command."""

import sys

from powervisor.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
