"""Certificates for the TLS cases: a CA of our own, a server of its, and a stranger."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_VALID = dt.timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. `server` and `stray` hold a key and its certificate; `ca` signs only `server`."""

    ca: Path
    server: Path
    stray: Path

    def server_context(self) -> ssl.SSLContext:
        """For a server that speaks HTTP/2 where the client can."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def stray_context(self) -> ssl.SSLContext:
        """For a server that nobody has reason to trust."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.stray)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts our CA alone."""
        return ssl.create_default_context(cafile=self.ca)


def make(folder: Path) -> Certificates:
    """Make a set in `folder`."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _sign("arbstr fault suite CA", ca_key, "arbstr fault suite CA", ca_key, is_ca=True)
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = _sign("127.0.0.1", server_key, "arbstr fault suite CA", ca_key, is_ca=False)
    stray_key = ec.generate_private_key(ec.SECP256R1())
    stray = _sign("127.0.0.1", stray_key, "127.0.0.1", stray_key, is_ca=False)
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "stray.pem")
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    _write(made.server, server_key, server)
    _write(made.stray, stray_key, stray)
    return made


def _sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_id, critical=False)
        .add_extension(usage, critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _write(path: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
