"""One authority in the place of another, without a moment in which somebody is shut out.

`rotate_ca` makes the successor, and the former one signs its name and key; servers get certificates
under it (`certificates.renew`); parties take it over from the registry (`accord_common.trust`);
`retire_ca` drops the former one.

Guarantees: a process that dies in between leaves the former or the present authority, with its key.
"""

import re
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from accord_common.authorities import fingerprint_of, read_bundle
from accord_common.errors import ConflictError, UsageError
from accord_common.files import put_in_place, write_secret
from accord_server.ca import (
    CA_CERTIFICATE,
    CA_KEY,
    NEXT_KEY,
    Issued,
    builder,
    describe,
    key_pem,
    make_authority,
    open_ca,
    put_certificates,
    signed_by,
    usage,
)
from accord_server.certificates import issued

_GENERATION = re.compile(r" G(\d{1,4})$")  # how a successor's name differs


def rotate_ca(folder: Path, moment: datetime) -> Issued:
    """Make a successor, vouched for by the present authority, which is the former one from then on.

    Raises:
        UsageError: `no-ca`.
        ConflictError: `rotation-under-way`.
    """
    present, signer = open_ca(folder)
    if len(read_bundle((folder / CA_CERTIFICATE).read_bytes())) > 1:
        raise ConflictError(
            "rotation-under-way",
            f"{folder} holds a former authority beside the present one already",
            hint="See how far it is: accord ca status. It ends with: accord ca retire",
        )
    name = present.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert isinstance(name, str)
    key = ec.generate_private_key(ec.SECP256R1())
    successor = make_authority(_successor(name), key, moment)
    left = present.not_valid_after_utc - moment
    vouching = (
        builder(successor.subject, present.subject, key.public_key(), moment, left)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(ca=True), critical=True)
        .add_extension(signed_by(signer), critical=False)
        .sign(signer, hashes.SHA256())
    )
    (folder / NEXT_KEY).unlink(missing_ok=True)  # of a rotation that died before it was named
    write_secret(folder / NEXT_KEY, key_pem(key))
    put_certificates(folder / CA_CERTIFICATE, [present, successor, vouching])
    put_in_place(folder / NEXT_KEY, folder / CA_KEY)
    return describe(folder / CA_CERTIFICATE, folder / CA_KEY, successor)


def retire_ca(folder: Path, moment: datetime) -> Issued:
    """Drop the former authority from the bundle.

    Raises:
        UsageError: `no-rotation`.
        ConflictError: `servers-behind` where one still shows a certificate of the former one.
    """
    present, _ = open_ca(folder)
    if len(read_bundle((folder / CA_CERTIFICATE).read_bytes())) == 1:
        raise UsageError("no-rotation", f"{folder} holds one authority; none is being exchanged")
    own = fingerprint_of(present)
    behind = [line for line in issued(folder, moment) if line.authority != own]
    if behind:
        raise ConflictError(
            "servers-behind",
            f"{', '.join(line.file for line in behind)} are not under the present authority",
            hint="Renew them (accord ca renew FILE), bring them to their servers, then try again.",
        )
    put_certificates(folder / CA_CERTIFICATE, [present])
    return describe(folder / CA_CERTIFICATE, folder / CA_KEY, present)


def _successor(name: str) -> str:
    """A name of its own, so that nobody takes one authority for the other."""
    generation = _GENERATION.search(name)
    number = 2 if generation is None else int(generation[1]) + 1
    return f"{_GENERATION.sub('', name)[:58]} G{number}"
