"""Messages of fragmented federated learning: pairs swap padded fragments through a server that can read none of them.

Protocol of Jebreel et al., IEEE TNNLS 2024, with primitives chosen here: ephemeral X25519 and HKDF-SHA-256 for keys,
ChaCha20-Poly1305 for every message, ChaCha20 key streams for the common mask and the pads, fixed-point numbers modulo
2^64. In one round parties k and j of a pair do the same:

1. ``assign``: the server sends the partner's name and its own public key.
2. ``hello``: a public key to the partner, relayed. Both derive the mask b and a key for each direction.
3. ``pad``: the seed of the own pad r_k, sealed for the server; ``fragment``: b w_k + r_k, sealed for the partner.
4. ``upload``: y_k = (1 - b) w_k + (b w_j + r_j), sealed for the server, which removes r_j.

The header of a message is authenticated with it, and a key serves one message, so a changed, misdirected, repeated or
old message is rejected. The server is honest but curious: it could impersonate two parties without keys of each other
to each other, which signatures under long-term keys would prevent.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ASSIGN, HELLO, PAD, FRAGMENT, UPLOAD = range(1, 6)
SERVER = 0xFFFFFFFF
HEADER = struct.Struct("<4sBIIII")  # magic, kind, round, sender, recipient, bytes that follow
MAGIC = b"FFL1"
KEY_BYTES = SEED_BYTES = 32
TAG_BYTES = 16
WORD_BYTES = 8
ONCE = bytes(12)  # a constant nonce, because every key seals one message

Vector = np.ndarray
"""int64 (d,), whose wrapping sums are arithmetic modulo 2^64."""
RandomBytes = Callable[[int], bytes]
Lost = Callable[[int, int], bool]
"""``lost(kind, sender)``: whether this party drops out before it sends this kind of message."""


class WireError(ValueError):
    """Message that its recipient rejects: changed, old, a copy, or meant for another party."""


@dataclass
class Traffic:
    """Messages and bytes over all links; a relayed message uses two."""

    messages: int = 0
    bytes_sent: int = 0

    def count(self, message: bytes, links: int = 1) -> bytes:
        """Count ``message`` on that many links and return it."""
        self.messages += links
        self.bytes_sent += links * len(message)
        return message


def stream(seed: bytes, size: int) -> bytes:
    """Return ``size`` pseudo-random bytes from a 32-byte seed (ChaCha20)."""
    return Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(size))


def pad_of(seed: bytes, size: int) -> Vector:
    """Return a uniform pad (size,) modulo 2^64."""
    return np.frombuffer(stream(seed, WORD_BYTES * size), dtype="<i8").astype(np.int64)


def mask_of(seed: bytes, size: int, p_mix: float) -> np.ndarray:
    """Return bool (size,), True with probability ``p_mix`` (to 2^-16)."""
    return np.frombuffer(stream(seed, 2 * size), dtype="<u2") < round(p_mix * 2**16)


def derive_key(own: X25519PrivateKey, other: bytes, purpose: str) -> bytes:
    """Return 32 bytes that the owners of the two keys agree on, for one purpose."""
    agreed = own.exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=f"ffl {purpose}".encode()).derive(agreed)


def frame(kind: int, round: int, sender: int, recipient: int, body: bytes) -> bytes:
    """Return a message without secrets."""
    return HEADER.pack(MAGIC, kind, round, sender, recipient, len(body)) + body


def seal(key: bytes, kind: int, round: int, sender: int, recipient: int, body: bytes) -> bytes:
    """Return a message that only an owner of ``key`` can read or have written."""
    header = HEADER.pack(MAGIC, kind, round, sender, recipient, len(body) + TAG_BYTES)
    return header + ChaCha20Poly1305(key).encrypt(ONCE, body, header)


def unframe(message: bytes, kind: int, round: int, recipient: int) -> tuple[int, bytes]:
    """Return sender and body of a message.

    Raises:
        WireError: the header is not that of such a message.
    """
    if len(message) < HEADER.size:
        raise WireError("the message is shorter than a header.")
    magic, its_kind, its_round, sender, its_recipient, size = HEADER.unpack_from(message)
    if (magic, its_kind, its_round, its_recipient) != (MAGIC, kind, round, recipient):
        raise WireError(f"not a message of kind {kind} to {recipient} in round {round}.")
    if size != len(message) - HEADER.size:
        raise WireError("the message has not the length that it claims.")
    return sender, message[HEADER.size :]


def unseal(key: bytes, message: bytes) -> bytes:
    """Return the body of a sealed message.

    Raises:
        WireError: it was not sealed with this key, or header or body were changed.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(ONCE, message[HEADER.size :], message[: HEADER.size])
    except InvalidTag as error:
        raise WireError("the message is not authentic.") from error


class Party:
    """One party in one round.

    Args:
        identity: its number.
        round: of the collaboration.
        values: int64 (d,), its update.
        p_mix: share of the coordinates that a pair exchanges.
        random_bytes: ``os.urandom`` in deployment, seeded in experiments.
    """

    def __init__(self, identity: int, round: int, values: Vector, p_mix: float, random_bytes: RandomBytes) -> None:
        self.identity, self.round, self.values, self.p_mix = identity, round, values, p_mix
        self.secret = X25519PrivateKey.from_private_bytes(random_bytes(KEY_BYTES))
        self.pad_seed = random_bytes(SEED_BYTES)
        self.done: set[int] = set()

    @property
    def public(self) -> bytes:
        return self.secret.public_key().public_bytes_raw()

    def hello(self, assignment: bytes) -> bytes:
        """Return the own public key for the partner that the server's ``assign`` names."""
        _, body = self._receive(assignment, ASSIGN)
        self.partner, self.server_public = int.from_bytes(body[:4], "little"), body[4:]
        return frame(HELLO, self.round, self.identity, self.partner, self.public)

    def meet(self, hello: bytes) -> None:
        """Accept the partner's public key and derive the common mask."""
        sender, self.partner_public = self._receive(hello, HELLO)
        if sender != self.partner:
            raise WireError(f"a hello of {sender}, but the partner is {self.partner}.")
        self.mask = mask_of(self._with_partner("mask"), len(self.values), self.p_mix)

    def pad(self) -> bytes:
        """Return the pad's seed, sealed for the server."""
        return seal(self._with_server(PAD), PAD, self.round, self.identity, SERVER, self.pad_seed)

    def fragment(self) -> bytes:
        """Return b w + r, sealed for the partner."""
        padded = np.where(self.mask, self.values, 0) + pad_of(self.pad_seed, len(self.values))
        key = self._with_partner(f"fragment of {self.identity}")
        return seal(key, FRAGMENT, self.round, self.identity, self.partner, padded.astype("<i8").tobytes())

    def upload(self, fragment: bytes) -> bytes:
        """Return (1 - b) w plus the partner's padded fragment, sealed for the server."""
        self._receive(fragment, FRAGMENT)
        body = unseal(self._with_partner(f"fragment of {self.partner}"), fragment)
        self.done.add(FRAGMENT)
        mixed = np.where(self.mask, 0, self.values) + np.frombuffer(body, dtype="<i8")
        return seal(self._with_server(UPLOAD), UPLOAD, self.round, self.identity, SERVER, mixed.astype("<i8").tobytes())

    def _receive(self, message: bytes, kind: int) -> tuple[int, bytes]:
        if kind in self.done:
            raise WireError(f"party {self.identity} already has such a message in this round.")
        received = unframe(message, kind, self.round, self.identity)
        if kind != FRAGMENT:  # a forged fragment must not shut the real one out
            self.done.add(kind)
        return received

    def _with_partner(self, purpose: str) -> bytes:
        low, high = sorted((self.identity, self.partner))
        return derive_key(self.secret, self.partner_public, f"{purpose} in round {self.round} of {low} and {high}")

    def _with_server(self, kind: int) -> bytes:
        return derive_key(self.secret, self.server_public, f"{kind} of {self.identity} in round {self.round}")


class Server:
    """The server in one round: it relays, accepts pads and uploads, and removes the pads."""

    def __init__(self, round: int, random_bytes: RandomBytes) -> None:
        self.round = round
        self.secret = X25519PrivateKey.from_private_bytes(random_bytes(KEY_BYTES))
        self.publics: dict[int, bytes] = {}
        self.taken: dict[tuple[int, int], bytes] = {}

    def assign(self, party: int, partner: int) -> bytes:
        """Return the ``assign`` message for ``party``."""
        body = partner.to_bytes(4, "little") + self.secret.public_key().public_bytes_raw()
        return frame(ASSIGN, self.round, SERVER, party, body)

    def relay(self, hello: bytes, sender: int, recipient: int) -> bytes:
        """Return a hello for its recipient and keep the key in it."""
        _, self.publics[sender] = unframe(hello, HELLO, self.round, recipient)
        return hello

    def take(self, message: bytes, kind: int) -> None:
        """Accept a ``pad`` or an ``upload``.

        Raises:
            WireError: it is not authentic or not the first one.
        """
        sender, _ = unframe(message, kind, self.round, SERVER)
        if sender not in self.publics:
            raise WireError(f"{sender} takes no part in this round.")
        if (kind, sender) in self.taken:
            raise WireError(f"{sender} has already sent such a message in this round.")
        key = derive_key(self.secret, self.publics[sender], f"{kind} of {sender} in round {self.round}")
        self.taken[kind, sender] = unseal(key, message)

    def open(self, party: int, partner: int) -> Vector | None:
        """Return the mixed update of ``party``, int64 (d,), or None if it or its partner's pad did not arrive."""
        upload, seed = self.taken.get((UPLOAD, party)), self.taken.get((PAD, partner))
        if upload is None or seed is None:
            return None
        padded = np.frombuffer(upload, dtype="<i8").astype(np.int64)
        return padded - pad_of(seed, len(padded))


@dataclass
class Exchange:
    """One round of the protocol, with all parties and the server in one process and every message in its real form.

    Args:
        round: its number.
        p_mix: see :class:`Party`.
        random_bytes: source of keys and pads.
        lost: drop-outs; none by default.
    """

    round: int
    p_mix: float
    random_bytes: RandomBytes
    lost: Lost = lambda kind, sender: False
    traffic: Traffic = field(default_factory=Traffic)

    def run(self, pairs: Iterable[tuple[int, int]], values: dict[int, Vector]) -> dict[int, Vector]:
        """Return party -> the mixed update that the server obtains; without parties that drop out or wait for such."""
        server = Server(self.round, self.random_bytes)
        opened: dict[int, Vector] = {}
        for k, j in pairs:
            both = {i: Party(i, self.round, values[i], self.p_mix, self.random_bytes) for i in (k, j)}
            self._swap(server, both, {k: j, j: k})
            for party, partner in ((k, j), (j, k)):
                mixed = server.open(party, partner)
                if mixed is not None:
                    opened[party] = mixed
        return opened

    def _swap(self, server: Server, both: dict[int, Party], partner: dict[int, int]) -> None:
        """Exchange all messages of one pair; a message not sent by the end of a step counts as lost."""
        count, hellos, fragments = self.traffic.count, {}, {}
        for i, party in both.items():
            hello = party.hello(count(server.assign(i, partner[i])))
            if not self.lost(HELLO, i):
                hellos[i] = server.relay(count(hello, links=2), i, partner[i])
        if len(hellos) < 2:
            return
        for i, party in both.items():
            party.meet(hellos[partner[i]])
            if not self.lost(FRAGMENT, i):
                server.take(count(party.pad()), PAD)
                fragments[i] = count(party.fragment(), links=2)
        for i, party in both.items():
            if partner[i] in fragments and i in fragments and not self.lost(UPLOAD, i):
                server.take(count(party.upload(fragments[partner[i]])), UPLOAD)


def traffic(paired: int, silent: int, uploads: int, size: int) -> Traffic:
    """Return the traffic of :class:`Exchange` for ``paired`` parties with updates of length d = ``size``.

    ``silent`` of them drop out before they send a fragment, and ``uploads`` send an upload.
    """
    head, vector = HEADER.size, WORD_BYTES * size
    before = (head + 4 + KEY_BYTES) + 2 * (head + KEY_BYTES)  # assign, hello
    swap = (head + SEED_BYTES + TAG_BYTES) + 2 * (head + vector + TAG_BYTES)  # pad, fragment
    upload = head + vector + TAG_BYTES
    return Traffic(
        messages=3 * paired + 3 * (paired - silent) + uploads,
        bytes_sent=paired * before + (paired - silent) * swap + uploads * upload,
    )
