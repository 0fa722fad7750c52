"""`python -m nsl`."""

import sys

from nsl.cli import main

sys.exit(main())
