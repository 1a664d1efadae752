"""Secure summation: every vector is masked, the masks cancel in the sum, and drop-outs can be compensated.

Bonawitz et al., *Practical Secure Aggregation for Privacy-Preserving Machine Learning*, CCS 2017, figure 4, for an
honest-but-curious server. Pairwise seeds: X25519 and HKDF-SHA-256; masks: ChaCha20 key stream read as integers modulo
2^32; both kinds of secrets are shared t-of-n (Shamir). Deviations: all parties live in one process, so the shares that
the paper sends through the server encrypted are passed in memory, and the signatures and the consistency check of
its malicious-server form are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from benchmark.crypto.shamir import SECRET_BYTES, SHARE_BYTES, combine, split

MODULUS_BITS = 32
KEY_BYTES = 32

Vector = np.ndarray
"""uint32 (d,), whose arithmetic in numpy is modulo 2^32."""


class ProtocolAborted(RuntimeError):
    """Error: fewer parties than the threshold remain, so no mask is opened."""


def key_stream(seed: bytes, size: int) -> Vector:
    """Return ``size`` pseudo-random integers modulo 2^32 from a 32-byte seed (ChaCha20)."""
    cipher = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()
    return np.frombuffer(cipher.update(bytes(4 * size)), dtype="<u4").astype(np.uint32)


def pair_seed(secret: bytes, public: bytes) -> bytes:
    """Return the seed that two parties agree on, the same from both sides: X25519, then HKDF-SHA-256."""
    agreed = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=b"pairwise mask").derive(agreed)


@dataclass
class Member:
    """One party's secrets, and the shares of the others' secrets that it keeps.

    Attributes:
        secret: X25519 private key.
        self_seed: seed of its own mask.
        public: X25519 public key.
        secret_shares, self_shares: party -> the share of that party's ``secret`` and ``self_seed``.
    """

    secret: bytes
    self_seed: bytes
    public: bytes
    secret_shares: dict[int, int] = field(default_factory=dict)
    self_shares: dict[int, int] = field(default_factory=dict)


class SecureSum:
    """One run of the protocol among parties 0, ..., n-1.

    Args:
        parties: n, at least 2.
        threshold: least number of remaining parties to open the sum, 2 to n.
        random_bytes: ``random_bytes(k)`` gives k random bytes; ``os.urandom`` in deployment, seeded in experiments.

    Raises:
        ValueError: the threshold is out of range.
    """

    def __init__(self, *, parties: int, threshold: int, random_bytes: Callable[[int], bytes]) -> None:
        if not 2 <= threshold <= parties:
            raise ValueError(f"the threshold must be from 2 to the {parties} parties, got {threshold}.")
        self.parties, self.threshold = parties, threshold
        self.members = [self._member(random_bytes) for _ in range(parties)]
        for owner, member in enumerate(self.members):
            rule = dict(shares=parties, threshold=threshold)
            of_secret = split(member.secret, random_bytes=random_bytes, **rule)
            of_self = split(member.self_seed, random_bytes=random_bytes, **rule)
            for keeper, other in enumerate(self.members):
                other.secret_shares[owner] = of_secret[keeper + 1]
                other.self_shares[owner] = of_self[keeper + 1]

    @staticmethod
    def _member(random_bytes: Callable[[int], bytes]) -> Member:
        secret = random_bytes(SECRET_BYTES)
        public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
        return Member(secret, random_bytes(SECRET_BYTES), public)

    def mask(self, party: int, values: Vector) -> Vector:
        """Return the upload of ``party``: x + PRG(b) + sum_{v > u} PRG(s_uv) - sum_{v < u} PRG(s_uv)."""
        member = self.members[party]
        masked = values + key_stream(member.self_seed, len(values))
        for other in range(self.parties):
            if other != party:
                masked = masked + self._pairwise(party, member.secret, other, len(values))
        return masked

    def open(self, uploads: Mapping[int, Vector]) -> Vector:
        """Return the sum modulo 2^32 of the vectors of the parties that uploaded, from their masked vectors.

        Raises:
            ProtocolAborted: fewer uploads than the threshold.
        """
        survivors = sorted(uploads)
        if len(survivors) < self.threshold:
            raise ProtocolAborted(
                f"Only {len(survivors)} of {self.parties} parties are left, but secure aggregation opens a sum of no "
                f"fewer than {self.threshold}; lower the threshold or the dropout."
            )
        size = len(uploads[survivors[0]])
        total = np.zeros(size, dtype=np.uint32)
        for party in survivors:
            total = total + uploads[party]
            total = total - key_stream(self._gather("self_shares", party, survivors), size)
        for dropped in set(range(self.parties)) - set(survivors):
            secret = self._gather("secret_shares", dropped, survivors)
            for party in survivors:  # the dropped party would have removed what the survivor added for the pair
                total = total + self._pairwise(dropped, secret, party, size)
        return total

    def _gather(self, kind: str, owner: int, survivors: list[int]) -> bytes:
        """Return a secret of ``owner`` from the shares of ``threshold`` survivors."""
        return combine(
            {keeper + 1: getattr(self.members[keeper], kind)[owner] for keeper in survivors[: self.threshold]}
        )

    def _pairwise(self, party: int, secret: bytes, other: int, size: int) -> Vector:
        stream = key_stream(pair_seed(secret, self.members[other].public), size)
        return stream if other > party else np.negative(stream)


def traffic(parties: int, survivors: int) -> tuple[int, int]:
    """Return bytes and messages of one run beside the masked vectors: keys, shares, and shares that open masks."""
    keys = parties * KEY_BYTES * (1 + parties)  # one key up from each, all keys down to each
    sharing = 2 * parties * (parties - 1) * 2 * SHARE_BYTES  # two shares for every other party, up and down again
    opening = survivors * parties * SHARE_BYTES  # from each one share of every party: of its key or of its own seed
    return keys + sharing + opening, 4 * parties + 2 * survivors
