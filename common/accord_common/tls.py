"""TLS as this side of a connection: one pinned authority, and nobody else."""

import ssl

from accord_common.errors import FormatError


def trusting(ca_pem: bytes) -> ssl.SSLContext:
    """Make a client's context: TLS 1.3, the host's name, and a certificate from this CA alone.

    Raises:
        FormatError: `bad-certificate` where `ca_pem` is no PEM certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the host name, trusts nobody yet
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise FormatError(
            "bad-certificate", f"the CA file holds no certificate: {error}"
        ) from error
    return context
