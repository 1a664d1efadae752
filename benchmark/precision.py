"""Precision of a cell's arithmetic on float32 tensors, which is a part of the cell: other precision, other numbers.

* ``full``: float32 throughout.
* ``tf32``: a GPU may round the inputs of matrix products and convolutions to 10 bits. That holds for all that the cell
  does in float32, attacks, second derivatives and evaluation among it.
* ``bf16``: forward passes of the suite's training loop (``benchmark/training/loop.py``), alone and side by side, are
  under torch's autocast to bfloat16, and so are the gradients with respect to what it has cast. This concerns the
  classifiers of release, service and deployment, shadow models, decoders and examiners, and the inner ascent of
  adversarial training. Losses, weights, their gradients and the optimiser are float32.

  All else is in full precision, for it is the gradients themselves that are attacked, bounded or encoded there: the
  local steps and uploads of a collaboration, gradient matching and other second derivatives, per-sample gradients,
  clipping, noise and accounting of differential privacy, secure sums and keys, generators with loops of their own,
  attacks on inputs, and every evaluation. A cell without a training of that loop has the numbers of ``full``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from benchmark.errors import ConfigError

if TYPE_CHECKING:
    import torch  # where it is used it is imported late: who composes a cell needs the names alone

FULL, TF32, BF16 = PRECISIONS = ("full", "tf32", "bf16")
FIRST_WITH_TF32 = 8
"""Major number of the compute capability, that of Ampere."""
LACKING = re.compile(r"could not create a primitive|not implemented for 'BFloat16'")

_bf16: ContextVar[bool] = ContextVar("_bf16", default=False)  # of the thread, for cells may be played in turns
_found: list[tuple[bool, bool]] = []
"""TF32 flags as each cell that is being played on a GPU found them, the first one first."""


def check(precision: object, device: str | torch.device | None = None) -> None:
    """Raise ConfigError unless ``precision`` is one of :data:`PRECISIONS` and, if given, ``device`` has it."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be full, tf32 or bf16, got {precision!r}.")
    if precision == TF32 and device is not None and not _has_tf32(device):
        raise ConfigError(
            f"precision=tf32 needs a GPU of compute capability {FIRST_WITH_TF32}.0 (Ampere) or later, and the device "
            f"is {device}; use precision=full, or bf16, which works there too."
        )


def _has_tf32(device: str | torch.device) -> bool:
    import torch

    return torch.device(device).type == "cuda" and torch.cuda.get_device_capability(device)[0] >= FIRST_WITH_TF32


@contextmanager
def computing_in(precision: str, device: str | torch.device) -> Iterator[None]:
    """Let the block compute on ``device`` in ``precision``.

    The flags of TF32 are the process's. Cells that take turns agree in the precision and end in any order, so that the
    last of them puts the flags back.

    Raises:
        ConfigError: see :func:`check`.
    """
    import torch

    check(precision, device)
    on_gpu = torch.device(device).type == "cuda"
    token = _bf16.set(precision == BF16)
    if on_gpu:
        _found.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        _allow_tf32(precision == TF32, precision == TF32)
    try:
        yield
    finally:
        _bf16.reset(token)
        if on_gpu:
            before = _found.pop()
            if not _found:
                _allow_tf32(*before)


def _allow_tf32(convolutions: bool, products: bool) -> None:
    import torch

    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products


def trains_in_bf16() -> bool:
    """Return whether this thread plays a cell whose trainings are in bfloat16."""
    return _bf16.get()


def in_bf16(forward: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Return ``forward`` with its products in bfloat16 and what it returns in float32.

    It raises ConfigError where the device has no such form of a layer, as some CPUs have none of an LSTM.
    """
    import torch

    def reduced(*inputs: Any) -> Any:
        # Without a cache of weights: it would keep those cast without a gradient, by a pass within the pass.
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            try:
                found = forward(*inputs)
            except RuntimeError as error:
                if not LACKING.search(str(error)):
                    raise
                raise ConfigError(
                    f"The device {device.type} cannot compute a layer of this model in bfloat16; use precision=full."
                ) from error
        return _widened(found)

    return reduced


def _widened(found: Any) -> Any:
    import torch

    if isinstance(found, torch.Tensor):
        return found.float() if found.dtype == torch.bfloat16 else found
    return tuple(map(_widened, found)) if isinstance(found, tuple | list) else found
