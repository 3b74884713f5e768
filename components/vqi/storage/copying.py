"""How a person gets what a run left in a store."""

from __future__ import annotations

import re


def s3_address(uri: str) -> str:
    """The s3:// address of an artefact, from the one that KFP gives it; "" for one that is not in a store. KFP calls
    stores that speak S3 `minio` as well."""
    match = re.match(r"(?:s3|minio)://([^?]+)", uri)
    return f"s3://{match[1].rstrip('/')}" if match else ""


def copy_command(uri: str, folder: str) -> str:
    """The command that copies an artefact to `folder` on one's own machine, from the address that KFP gives it; "" for
    one that is not in a store. The command needs the store's keys and address, as `vqi` does.
    """
    address = s3_address(uri)
    return f"aws s3 cp --recursive {address} {folder}" if address else ""
