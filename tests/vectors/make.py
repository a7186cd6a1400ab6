"""Write `records`, `masks`, `channels`, `shamir`, `graph`, all .json: once a protocol, then frozen.

Provenance: every expected value is computed here by other code than Accord's (json.dumps with
sorted keys for ASCII records, HMAC for HKDF after RFC 5869, AES in ECB mode over explicit counters
for the mask stream, powers of x and Lagrange's formula for shares), so a fault in Accord's own code
cannot freeze itself. Keys are fixed byte patterns.

    python tests/vectors/make.py
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
IDS = [f"01890a5d-ac96-774b-bcce-b302099a805{digit}" for digit in "0123456789"]
HASH, KEY = "ab" * 32, "cd" * 32
TIME = "2026-01-31T12:00:00Z"

HEAD = {"size": 12, "root": "ad" * 32, "created": "2026-01-31T12:00:00Z", "signature": "bc" * 64}
BODIES: dict[str, Any] = {
    "checkpoint": {
        "log": "ab" * 32,
        "size": 12,
        "root": "ad" * 32,
        "created": "2026-01-31T12:00:00Z",
    },
    "enrolment": {
        "party": IDS[0],
        "name": "Hospital A",
        "role": "data-holder",
        "identity_key": KEY,
        "jurisdiction": "DE",
        "contact": "privacy@a.example",
        "created": TIME,
    },
    "delegation": {
        "previous": None,
        "party": IDS[0],
        "node_key": KEY,
        "flower_key": "02" + "12" * 48,
        "valid_from": TIME,
        "valid_until": "2027-01-31T12:00:00Z",
    },
    "revocation": {
        "previous": HASH,
        "party": IDS[0],
        "reason": "the server was stolen",
        "created": TIME,
    },
    "withdrawal": {
        "agreement": HASH,
        "party": IDS[0],
        "reason": "the study ended",
        "created": TIME,
    },
    "suspension": {
        "agreement": HASH,
        "party": IDS[0],
        "previous": None,
        "reason": "an audit",
        "created": TIME,
    },
    "resumption": {
        "agreement": HASH,
        "party": IDS[0],
        "suspension": "ac" * 32,
        "created": TIME,
    },
    "aggregator-offer": {
        "party": IDS[1],
        "delegation": HASH,
        "address": "aggregator.example:9092",
        "envelope_key": KEY,
        "receipt_key": "ce" * 32,
        "tls_spki": HASH,
        "created": TIME,
    },
    "consent": {
        "manifest": HASH,
        "party": IDS[0],
        "dataset": IDS[2],
        "delegation": "ac" * 32,
        "decision": "refuse",
        "code": "budget-exceeded",
        "reason": "spent 2.4 of 3",
        "ledger_head": "00" * 32,
        "nonce": "cd" * 32,
        "log": HEAD,
        "created": TIME,
    },
    "node-receipt": {
        "previous": HASH,
        "manifest": "ac" * 32,
        "party": IDS[0],
        "round": 3,
        "attempt": 1,
        "model": "ad" * 32,
        "upload": "ae" * 32,
        "upload_bytes": 4016,
        "log": None,
        "ledger": {
            "sequence": 4,
            "previous": "af" * 32,
            "spend": {
                "population": IDS[3],
                "dataset": IDS[2],
                "agreement": HASH,
                "run": "ac" * 32,
                "round": 3,
                "attempt": 1,
                "mechanism": "poisson-gaussian",
                "noise_multiplier": "4.25",
                "clipping_norm": "1",
                "sampling_rate": "0.5",
                "size": 200,
                "steps": 5,
                "sampler": "poisson",
                "adjacency": "add-remove",
                "code_version": "0.1.0",
            },
            "recorded": TIME,
        },
        "created": TIME,
    },
    "aggregator-receipt": {
        "previous": HASH,
        "manifest": "ac" * 32,
        "round": 3,
        "attempt": 1,
        "outcome": "completed",
        "cohort": IDS[:3],
        "lost": [],
        "refused": {IDS[3]: "budget-exceeded"},
        "uploads": ["ad" * 32, "ae" * 32, "af" * 32],
        "sum": "b0" * 32,
        "model_before": "b1" * 32,
        "model_after": "b2" * 32,
        "created": TIME,
    },
    "result": {
        "previous": HASH,
        "manifest": "ac" * 32,
        "status": "completed",
        "cause": "",
        "code": "",
        "refused": {},
        "rounds": 8,
        "model": "b2" * 32,
        "epsilon": [
            {
                "party": IDS[0],
                "dataset": IDS[2],
                "attempts": 8,
                "epsilon": "2.3875",
                "delta": "0.00001",
            }
        ],
        "created": TIME,
    },
    "evaluation": {
        "result": HASH,
        "manifest": "ac" * 32,
        "model": "b2" * 32,
        "holdout": "b3" * 32,
        "rows": 143,
        "metrics": {"accuracy": "0.951", "auc": "0.9893"},
        "created": TIME,
    },
    "advertisement": {
        "manifest": HASH,
        "round": 0,
        "attempt": 2,
        "party": IDS[0],
        "mask_key": KEY,
        "channel_key": "ce" * 32,
        "log": HEAD,
    },
    "shares": {
        "manifest": HASH,
        "round": 0,
        "attempt": 2,
        "party": IDS[0],
        "cohort": "ad" * 32,
        "sealed": {IDS[1]: "5a" * 82, IDS[2]: "a5" * 82},
    },
    "confirmation": {
        "manifest": HASH,
        "round": 0,
        "attempt": 2,
        "party": IDS[0],
        "model": "ac" * 32,
        "cohort": "ad" * 32,
        "sharers": "af" * 32,
        "uploads": "b0" * 32,
    },
    "unmasking": {
        "manifest": HASH,
        "round": 0,
        "attempt": 2,
        "party": IDS[0],
        "uploads": "b0" * 32,
        "ephemeral_key": KEY,
        "sealed": "5a" * 115,
    },
    "upload": {
        "manifest": HASH,
        "round": 0,
        "attempt": 2,
        "party": IDS[0],
        "model": "ac" * 32,
        "cohort": "ad" * 32,
        "sharers": "af" * 32,
        "words": 1000,
        "chunks": 1,
        "ephemeral_key": KEY,
        "root": "ae" * 32,
    },
}

BODIES["commitment"] = BODIES["advertisement"] | {"commitment": "ac" * 32}
BODIES["reveal"] = {
    "manifest": HASH,
    "round": 0,
    "attempt": 2,
    "party": IDS[0],
    "cohort": "ad" * 32,
    "value": "b0" * 32,
}
BODIES["agreement"] = {
    "id": IDS[9],
    "version": 1,
    "previous": None,
    "title": "Tumour study",
    "purpose": ["DUO:0000007"],
    "legal_basis": "GDPR Art. 9(2)(j)",
    "responsibilities": "Each institution answers for its own data.",
    "parties": [
        {
            "id": IDS[index],
            "name": f"Party {index}",
            "role": role,
            "identity_key": f"{index + 16:02x}" * 32,
            "jurisdiction": "FR",
            "contact": "privacy@example.org",
        }
        for index, role in enumerate(["data-holder", "data-holder", "coordinator", "aggregator"])
    ],
    "datasets": [
        {
            "id": IDS[index + 4],
            "name": "tumours",
            "owner": IDS[index],
            "population": IDS[index + 6],
            "schema_hash": HASH,
            "size": 200,
            "unit": "record",
            "privacy": {
                "epsilon_cap": "3",
                "delta": "0.00001",
                "adjacency": "add-remove",
                "min_noise_multiplier": "0.5",
                "max_clipping_norm": "1",
                "max_sampling_rate": "0.5",
                "non_private": False,
            },
        }
        for index in range(2)
    ],
    "tasks": [
        {
            "task": "tabular-binary",
            "objective": "tell malignant from benign",
            "architectures": ["logistic-regression"],
            "max_rounds": 100,
        }
    ],
    "aggregation": {"min_cohort": 2, "threshold": 2, "colluders": 0},
    "release": {"recipients": IDS[:4], "metrics": "public-holdout"},
    "benefit": {"rule": "equal", "shares": {}},
    "retention_days": 365,
    "valid_from": TIME,
    "valid_until": "2027-01-31T12:00:00Z",
    "log_key": KEY,
}
BODIES["manifest"] = {
    "protocol": 1,
    "id": IDS[8],
    "agreement": HASH,
    "title": "First run",
    "created": TIME,
    "software": "0.1.0",
    "roster": [
        {
            "party": IDS[index],
            "dataset": IDS[index + 4],
            "delegation": f"{index + 32:02x}" * 32,
            "weight": 1,
            "sampling_rate": "0.5",
            "noise_multiplier": "4.25",
        }
        for index in range(2)
    ],
    "task": {
        "name": "tabular-binary",
        "distribution": "accord",
        "version": "0.1.0",
        "code_hash": HASH,
    },
    "schema_hash": HASH,
    "architecture": {"name": "mlp", "args": {"activation": "tanh", "hidden": [16, 8]}},
    "initial_model": HASH,
    "layout": HASH,
    "dimension": 641,
    "adaptation": {
        "base": HASH,
        "layout": KEY,
        "dimension": 1283,
        "frozen": ["0", "encoder.norm"],
        "lora": {"rank": 8, "layers": ["2"]},
    },
    "privacy": "dp",
    "local": {"steps": 5, "learning_rate": "0.5", "clipping_norm": "1", "clipping": "flat"},
    "server": {
        "name": "fedavg",
        "learning_rate": "1",
        "beta1": "0.9",
        "beta2": "0.99",
        "tau": "0.001",
    },
    "secagg": {
        "threshold": 2,
        "min_cohort": 2,
        "colluders": 0,
        "ring_bits": 32,
        "bound": "3.5",
        "scale": 268435456,
    },
    "rounds": 8,
    "max_attempts_total": 10,
    "deadlines": {"advertise_s": 10, "update_s": 60, "rejoin_s": 30},
    "aggregator": {
        "party": IDS[3],
        "offer": HASH,
        "address": "aggregator.example:9092",
        "envelope_key": KEY,
        "receipt_key": "ce" * 32,
        "tls_spki": HASH,
    },
}


def plain_json(value: Any) -> bytes:
    """RFC 8785 for ASCII strings and small integers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def envelope(kind: str, body: Any) -> dict[str, str]:
    """Sign a body with two fixed keys, by DSSE's text."""
    payload = plain_json(body)
    name = f"application/vnd.accord.{kind}+json"
    message = f"DSSEv1 {len(name)} {name} {len(payload)} ".encode() + payload
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32) for byte in (1, 2)]
    signatures = sorted(
        (key.public_key().public_bytes_raw().hex(), base64.b64encode(key.sign(message)).decode())
        for key in keys
    )
    wire = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": name,
        "signatures": [{"keyid": key, "sig": signature} for key, signature in signatures],
    }
    return {
        "payload": payload.decode(),
        "hash": hashlib.sha256(message).hexdigest(),
        "envelope": plain_json(wire).decode(),
    }


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, 32 bytes."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def masks() -> dict[str, Any]:
    """One pair's mask stream and one sealed chunk."""
    low = X25519PrivateKey.from_private_bytes(bytes(range(32)))
    high = X25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
    context = bytes.fromhex(HASH) + (3).to_bytes(8, "big") + (1).to_bytes(8, "big")
    secret = low.exchange(high.public_key())
    info = b"accord mask v1" + (IDS[0] + IDS[1]).encode() + bytes.fromhex("ac" * 32 + "ad" * 32)
    key = hkdf(secret, context, info)
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    stream = b"".join(ecb.update(counter.to_bytes(16, "big")) for counter in range(4))

    ephemeral = X25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
    receiver = X25519PrivateKey.from_private_bytes(bytes(range(96, 128)))
    publics = [key.public_key().public_bytes_raw() for key in (ephemeral, receiver)]
    secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(publics[1]))
    seal_key = hkdf(secret, context, b"accord envelope v1" + publics[0] + publics[1])
    associated = context + (IDS[0] + IDS[1]).encode() + bytes(8) + b"\x01"
    sealed = AESGCM(seal_key).encrypt(bytes(12), stream, associated)
    root = hashlib.sha256(b"accord upload v1" + hashlib.sha256(sealed).digest()).hexdigest()
    seed = bytes(range(128, 160))
    self_key = hkdf(seed, context, b"accord self mask v1" + IDS[0].encode())
    return {
        "context": context.hex(),
        "lower": IDS[0],
        "higher": IDS[1],
        "cohort": "ac" * 32,
        "model": "ad" * 32,
        "pair_key": key.hex(),
        "stream": stream.hex(),
        "sealed": sealed.hex(),
        "root": root,
        "self_seed": seed.hex(),
        "self_key": self_key.hex(),
    }


def channels() -> dict[str, Any]:
    """One node's shares for another, one answer of R4, and the hashes of U1, U2 and U3."""
    keys = [X25519PrivateKey.from_private_bytes(bytes(range(at, at + 32))) for at in (0, 32)]
    publics = [key.public_key().public_bytes_raw() for key in keys]
    secret = keys[0].exchange(keys[1].public_key())
    context = bytes.fromhex(HASH) + (3).to_bytes(8, "big") + (1).to_bytes(8, "big")
    ids = (IDS[0] + IDS[1]).encode()
    values = [bytes(range(33)), (2**256 + 296).to_bytes(33, "big")]  # the second is p - 1

    share_key = hkdf(secret, context, b"accord share v1" + ids + publics[0] + publics[1])
    associated = context + b"\x01" + ids + bytes.fromhex("ac" * 32)
    shares = AESGCM(share_key).encrypt(bytes(12), b"".join(values), associated)

    answer_key = hkdf(secret, context, b"accord unmask v1" + publics[0] + publics[1])
    associated = context + b"\x04" + ids + bytes.fromhex("b0" * 32)
    answer = AESGCM(answer_key).encrypt(bytes(12), b"".join(values), associated)

    bodies = [BODIES["advertisement"] | {"party": party} for party in IDS[:2]]
    records = [envelope("advertisement", body) for body in bodies]
    members = b"".join(bytes.fromhex(record["hash"]) for record in records)
    uploads = {IDS[0]: "ae" * 32, IDS[1]: "af" * 32}
    named = b"".join(party.encode() + bytes.fromhex(hash_) for party, hash_ in uploads.items())
    return {
        "context": context.hex(),
        "source": IDS[0],
        "destination": IDS[1],
        "cohort": "ac" * 32,
        "values": [value.hex() for value in values],
        "shares": shares.hex(),
        "uploads": "b0" * 32,
        "answer": answer.hex(),
        "advertisements": [record["envelope"] for record in records],
        "cohort_hash": hashlib.sha256(b"accord cohort v1" + members).hexdigest(),
        "sharers_hash": hashlib.sha256(b"accord sharers v1" + ids).hexdigest(),
        "uploads_hash": hashlib.sha256(b"accord uploads v1" + named).hexdigest(),
        "named_uploads": uploads,
    }


def rings() -> dict[str, Any]:
    """The keystream of `masks`' pair key read as words of 16, 32 and 64 bits, and taken modulo."""
    stream = bytes.fromhex(masks()["stream"])
    return {
        str(bits): [
            int.from_bytes(stream[at : at + bits // 8], "little")
            for at in range(0, len(stream), bits // 8)
        ]
        for bits in (16, 32, 64)
    }


def shamir() -> list[dict[str, Any]]:
    """Shares of fixed secrets on fixed polynomials, each checked by Lagrange's formula at 0."""
    prime = 2**256 + 297
    patterns = [bytes(range(32)), bytes(32), b"\xff" * 32, bytes(range(32))]
    sizes = [(2, 3), (4, 5), (7, 10), (67, 100)]
    cases = []
    for secret, (threshold, count) in zip(patterns, sizes, strict=True):
        polynomial = [int.from_bytes(secret, "big")] + [
            int.from_bytes(hashlib.sha512(b"%d of %d" % (power, threshold)).digest(), "big") % prime
            for power in range(1, threshold)
        ]
        if secret == b"\xff" * 32:  # one share is p - 1, the largest there is
            polynomial[1] += prime - 1 - sum(polynomial)
        xs = range(1, count + 1)
        ys = [sum(c * x**power for power, c in enumerate(polynomial)) % prime for x in xs]
        total = 0
        for i in range(count - threshold, count):
            basis = 1
            for j in range(count - threshold, count):
                if j != i:
                    basis = basis * xs[j] * pow(xs[j] - xs[i], -1, prime) % prime
            total += ys[i] * basis
        assert total % prime == polynomial[0]
        shares = {str(x): y.to_bytes(33, "big").hex() for x, y in zip(xs, ys, strict=True)}
        cases.append({"threshold": threshold, "secret": secret.hex(), "shares": shares})
    return cases


def graph() -> dict[str, Any]:
    """Ten parties' commitments, the seed that follows, and a ring with four neighbours each."""
    context = bytes.fromhex(HASH) + (3).to_bytes(8, "big") + (1).to_bytes(8, "big")
    cohort = bytes.fromhex("ac" * 32)
    values = [bytes([at]) * 32 for at in range(10)]
    commitments = [
        hashlib.sha256(b"accord commitment v1" + context + party.encode() + value).hexdigest()
        for party, value in zip(IDS, values, strict=True)
    ]
    seed = hashlib.sha256(b"accord graph v1" + context + cohort + b"".join(values)).digest()
    ecb = Cipher(algorithms.AES(seed), modes.ECB()).encryptor()
    stream = b"".join(ecb.update(counter.to_bytes(16, "big")) for counter in range(8))
    words = [int.from_bytes(stream[at : at + 4], "little") for at in range(0, len(stream), 4)]
    ring = list(IDS)
    for i in range(9, 0, -1):
        while words[0] >= 2**32 - 2**32 % (i + 1):
            words.pop(0)
        j = words.pop(0) % (i + 1)
        ring[i], ring[j] = ring[j], ring[i]
    neighbours = {
        party: sorted(ring[(at + step) % 10] for step in (-2, -1, 1, 2))
        for at, party in enumerate(ring)
    }
    return {
        "context": context.hex(),
        "cohort": cohort.hex(),
        "parties": IDS,
        "values": [value.hex() for value in values],
        "commitments": commitments,
        "seed": seed.hex(),
        "neighbours": neighbours,
    }


if __name__ == "__main__":
    records = {kind: envelope(kind, body) for kind, body in BODIES.items()}
    made: dict[str, Any] = {
        "records": records,
        "masks": masks(),
        "channels": channels(),
        "shamir": shamir(),
        "graph": graph(),
    }
    made["masks"]["words"] = rings()
    for name, value in made.items():
        (HERE / f"{name}.json").write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
