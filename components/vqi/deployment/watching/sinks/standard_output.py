"""Standard output: a JSON line a decision."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from vqi.deployment.watching.outbox import Pending
from vqi.platform.errors import RunFailed


class StandardOutputSink:
    """Raises RunFailed where nobody reads any more: it does not come back."""

    name = "-"

    def deliver(self, pending: Pending) -> None:
        try:
            sys.stdout.write(f"{pending.line}\n")
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise RunFailed(
                "Nobody reads standard output any more; what was not read is delivered at the next start."
            ) from error

    def announce(self, state: Mapping[str, object]) -> None: ...

    def close(self) -> None: ...
