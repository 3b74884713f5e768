"""A warm server whose steps do what their argument says: run as a program by tests/steps/test_warm_steps.py."""

import os
import signal
import sys
import time
from collections.abc import Sequence

from vqi.steps.warm_server import Layer, main


def run(arguments: Sequence[str]) -> None:
    """What the arguments name, in the process of a step."""
    wanted = arguments[-1]
    if wanted == "show":
        print(os.environ["SHOWN"], os.getcwd(), "wave" in sys.modules, "colorsys" in sys.modules, sys.argv[1:])
        print("an error line", file=sys.stderr)
    elif wanted == "fail":
        sys.exit(3)
    elif wanted == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        print(os.getpid(), flush=True)
        time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1:], run, (Layer(("first",), ("wave",)), Layer(("second",), ("colorsys", "not_there"))))
