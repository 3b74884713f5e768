"""What a bundle costs whoever runs it."""

from __future__ import annotations

from vqi.platform.records import Record


class BundleCosts(Record):
    """`latency_ms`: milliseconds that one image takes alone, on the machine that exported; `bundle_mib`: the size of
    its files, MiB."""

    latency_ms: float
    bundle_mib: float
