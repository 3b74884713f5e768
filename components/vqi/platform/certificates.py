"""Certificates that a cluster hands to its pods: where they are mounted, what speaks TLS trusts them."""

from __future__ import annotations

import os
from pathlib import Path

# An optional ConfigMap is mounted here; without it the folder is empty, and so an environment variable set in the pod
# would name nothing.
MOUNTED = Path("/etc/vqi/ca/ca.crt")
# OpenSSL and httpx, requests (MLflow), boto3.
VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")


def trust_mounted_certificates(file: Path = MOUNTED) -> bool:
    """Point TLS libraries at `file` where it is there; variables that are set stand. Whether it is there."""
    if not file.is_file():
        return False
    for name in VARIABLES:
        os.environ.setdefault(name, str(file))
    return True
