"""What a run reads from outside, as a fingerprint: by it a step, or a trial, is known to be the same."""

from __future__ import annotations

from vqi.category import Category
from vqi.detectors.settings import setting_addresses
from vqi.storage.listing import listing_fingerprint

# Weights that are not at an address.
NO_ADDRESS = ("imagenet", "random")


def inputs_fingerprint(category: Category) -> str:
    """What the addresses of weights and further images list, "" where there is none. Raises BadInput where nothing is
    at one."""
    addresses = setting_addresses(category.method.name, category.method.settings)
    if category.reads_weights and category.backbone.weights not in NO_ADDRESS:
        addresses["backbone.weights"] = category.backbone.weights
    return ",".join(listing_fingerprint(address, key)[:16] for key, address in sorted(addresses.items()))
