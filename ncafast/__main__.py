"""`python -m ncafast` is the same as the command `ncafast`."""

import sys

from ncafast.cli import main

sys.exit(main())
