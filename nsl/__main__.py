"""`python -m nsl`, and the command `nsl`."""

import sys


def run() -> int:
    """The command line; Ctrl-C while it is still being loaded is one line, too."""
    try:
        from nsl.cli import main
    except KeyboardInterrupt:
        print("nsl: interrupted", file=sys.stderr)
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
