"""AES image disguising: blocks of an image, encrypted one by one.

Sharma, Gu, Chen, *A Comparative Study of Image Disguising Methods for Confidential Outsourced Learning*, 2022
(arXiv 2301.00252); Chen, Gu, Sharma, *DisguisedNets*, ACM TOIT 2023. Electronic codebook mode is intended: equal blocks
give equal ciphertexts, the only signal that a model can learn from. Deviations: blocks below 16 bytes stay
enlarged (averaging them back down would lose the bijection), and images are not stored as JPEG.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.data.blocks import from_blocks, to_blocks
from benchmark.errors import ConfigError
from benchmark.parameters import Count
from benchmark.settings.release.defense import Release, ReleaseMechanism

VERSION = 1
CIPHER_BYTES = 16
GREY_LEVELS = 255


class AESBlock(ReleaseMechanism):
    """Mechanism that releases every b x b block of every channel as its AES-128 ciphertext, read as grey levels.

    Pixels are rounded to 256 grey levels first. A block of a multiple of 16 bytes is encrypted 16 by 16; below 16 bytes
    its pixels are repeated until they fill a 4 x 4 block, so that height and width grow by 4 / b.

    Args:
        block: edge b of a block in pixels: 1, 2, or a multiple of 4; sides that b does not divide are padded with edge
            values.
        one_cipher: one key for all block positions; otherwise a key for each.
        permute: shuffle the blocks by one secret permutation.
    """

    needs = {"dataset.kind": "image"}

    def __init__(self, *, block: Count = 4, one_cipher: bool = True, permute: bool = True) -> None:
        if block not in (1, 2) and block % 4:
            raise ConfigError(f"aes_block.block must be 1, 2 or a multiple of 4, to fill 16 bytes; got {block}.")
        self.block, self.one_cipher, self.permute = block, one_cipher, permute
        self.factor = 4 // block if block < 4 else 1

    def facts(self) -> dict[str, Any]:
        edge = self.block * self.factor
        return {"block": edge, "cipher": "aes-128-ecb", "one_cipher": self.one_cipher}

    def secrets(self) -> dict[str, Tensor]:
        return {"order": self.order}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        if private.x.ndim != 4:
            raise ConfigError("aes_block disguises images, which have blocks; choose an image dataset.")
        height, width = (-(-side // self.block) for side in private.x.shape[-2:])
        count = height * width
        keys = torch.randint(256, (1 if self.one_cipher else count, CIPHER_BYTES), generator=rng, dtype=torch.uint8)
        self.keys = [key.numpy().tobytes() for key in keys]
        order = torch.randperm(count, generator=rng) if self.permute else torch.arange(count)
        self.order = order.to(private.x.device)
        return Release(self.encode(private.x), private.y, torch.arange(len(private)))

    def encode(self, x: Tensor) -> Tensor:
        """Return x (n, channels, height, width) encrypted, grey levels / 255."""
        levels = to_blocks((x * GREY_LEVELS).round().clamp(0, GREY_LEVELS), self.block)
        enlarged = levels.repeat_interleave(self.factor, dim=-1).repeat_interleave(self.factor, dim=-2)
        crypted = self._crypt(enlarged, decrypt=False)[:, :, self.order]
        return from_blocks(crypted, self._size(x)).to(x) / GREY_LEVELS

    def decode(self, encoded: Tensor) -> Tensor:
        """Invert :meth:`encode` for the owner of the key: (n, ...) -> grey levels / 255, exact, padded."""
        levels = to_blocks((encoded * GREY_LEVELS).round(), self.block * self.factor)[:, :, self.order.argsort()]
        plain = self._crypt(levels, decrypt=True)[..., :: self.factor, :: self.factor]
        height, width = (side // self.factor for side in encoded.shape[-2:])
        return from_blocks(plain, (height, width)).to(encoded) / GREY_LEVELS

    def _size(self, x: Tensor) -> tuple[int, int]:
        """Return height and width of the encoding of ``x``."""
        height, width = (-(-side // self.block) * self.block * self.factor for side in x.shape[-2:])
        return height, width

    def _crypt(self, blocks: Tensor, *, decrypt: bool) -> Tensor:
        """Return grey levels (n, channels, positions, b, b) passed through the cipher of each position, uint8."""
        levels = blocks.to(torch.uint8).movedim(2, 0).contiguous().cpu()
        if len(self.keys) == 1:
            return _aes(self.keys[0], levels, decrypt).movedim(0, 2).to(blocks.device)
        parts = [_aes(key, part, decrypt) for key, part in zip(self.keys, levels, strict=True)]
        return torch.stack(parts).movedim(0, 2).to(blocks.device)


def _aes(key: bytes, levels: Tensor, decrypt: bool) -> Tensor:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - the published scheme that is attacked here
    context = cipher.decryptor() if decrypt else cipher.encryptor()
    crypted = bytearray(context.update(levels.contiguous().numpy().tobytes()) + context.finalize())
    return torch.frombuffer(crypted, dtype=torch.uint8).view(levels.shape)
