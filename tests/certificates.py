"""A certificate authority of our own, made anew for every session of tests."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest


def made_authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """The file of an authority, and a server's side of TLS with a certificate of it for `localhost`."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: str, key: Any, issuer: str, issuer_key: Any, extensions: list[tuple[Any, bool]]) -> Any:
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
            subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1),
            not_valid_after=now + datetime.timedelta(hours=1),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256())

    ours, servers = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(ours.public_key())
    subject = x509.SubjectKeyIdentifier.from_public_key(ours.public_key())
    root = certificate(
        "factory", ours, "factory", ours, [(x509.BasicConstraints(True, None), True), (usage, True), (subject, False)]
    )
    leaf = certificate(
        "store",
        servers,
        "factory",
        ours,
        [(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False), (signed_by, False)],
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(root.public_bytes(pem))
    (folder / "server.pem").write_bytes(
        leaf.public_bytes(pem)
        + servers.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "ca.crt", context
