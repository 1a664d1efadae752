"""Secret sharing: any ``threshold`` of the shares reconstruct the secret, fewer reveal nothing.

Shamir, *How to share a secret*, CACM 1979. The field is the integers modulo the Mersenne prime 2^521 - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

PRIME = 2**521 - 1
SHARE_BYTES = 66  # one field element
SECRET_BYTES = 32


def split(secret: bytes, *, shares: int, threshold: int, random_bytes: Callable[[int], bytes]) -> dict[int, int]:
    """Return shares 1, ..., ``shares`` of a 32-byte secret: points of a random polynomial, degree ``threshold`` - 1."""
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [int.from_bytes(random_bytes(SHARE_BYTES), "big") % PRIME for _ in range(threshold - 1)]
    return {point: _value(coefficients, point) for point in range(1, shares + 1)}


def combine(shares: Mapping[int, int]) -> bytes:
    """Return the secret behind at least ``threshold`` shares: the polynomial at 0 (Lagrange).

    With too few shares the result is a field element unrelated to the secret.
    """
    total = 0
    for point, value in shares.items():
        top = bottom = 1
        for other in shares:
            if other != point:
                top = top * other % PRIME
                bottom = bottom * (other - point) % PRIME
        total += value * top * pow(bottom, -1, PRIME)
    return (total % PRIME).to_bytes(SHARE_BYTES, "big")[-SECRET_BYTES:]


def _value(coefficients: list[int], point: int) -> int:
    result = 0
    for coefficient in reversed(coefficients):
        result = (result * point + coefficient) % PRIME
    return result
