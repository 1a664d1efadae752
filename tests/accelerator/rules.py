"""CUDA's rules for ATen operations, as tables of names and functions over ``OpOverload``.

Names are ``aten::name`` for all overloads or ``aten::name.overload`` for one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch


def _aten(*names: str) -> frozenset[str]:
    return frozenset(f"aten::{name}" for name in names)


# Operations that read from one device and write to the other.
CROSSING = _aten("copy_", "_foreach_copy_", "_to_copy", "set_.source_Storage")

# Operations outside the pointwise ones that take a 0-dim tensor of the CPU among tensors of the GPU.
TAKES_SCALAR = _aten(
    *("masked_fill.Tensor", "masked_fill_.Tensor", "fill.Tensor", "fill_.Tensor", "lerp.Tensor", "lerp_.Tensor"),
    *("index_fill.int_Tensor", "index_fill_.int_Tensor"),
)
TAKES_SEVERAL_SCALARS = _aten("where.self")

INDEXING = _aten(
    *("index.Tensor", "_unsafe_index.Tensor", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put")
)
# ``x[index] = number`` becomes one of these on the CPU, and ``index_put_`` on a GPU where the index lies on the CPU.
SHORT_CUTS_OF_INDEXING = _aten("index_fill_", "masked_fill_")

# Products that cuBLAS has for floating point alone.
PRODUCTS = _aten("mm", "bmm", "addmm", "addmm_", "addbmm", "baddbmm", "mv", "addmv", "dot", "vdot")

# Operations after which the host waits for the device: the size of a result or its value decides what comes next.
WAITS = _aten(
    *("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave.Tensor"),
    *("equal", "is_nonzero", "allclose", "_local_scalar_dense", "_assert_async", "bincount", "histc"),
    *("_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "linalg_eig", "linalg_lstsq"),
)

# Operations without a deterministic kernel, from the documentation of ``torch.use_deterministic_algorithms``.
UNREPEATABLE = _aten(
    *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward"),
    *("avg_pool3d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward"),
    *("max_unpool2d", "max_unpool3d", "reflection_pad1d_backward", "reflection_pad2d_backward"),
    *("reflection_pad3d_backward", "upsample_linear1d_backward", "upsample_bilinear2d_backward"),
    *("upsample_bicubic2d_backward", "upsample_trilinear3d_backward", "grid_sampler_2d_backward"),
    *("grid_sampler_3d_backward", "nll_loss2d_forward", "nll_loss2d_backward", "_ctc_loss_backward"),
    *("put_", "histc", "median.dim", "nanmedian.dim", "scatter_reduce.two"),
)

NO_KERNEL = _aten("detach", "alias", "_reshape_alias", "lift_fresh", "sym_size")


@cache
def name_of(op: Any) -> str:
    """Return ``aten::name`` of an ``OpOverload``."""
    return op._schema.name


@cache
def full_name(op: Any) -> str:
    """Return ``aten::name.overload``, or ``aten::name`` of the default overload."""
    overload = op._schema.overload_name
    return f"{op._schema.name}.{overload}" if overload else op._schema.name


@cache
def listed(op: Any, table: frozenset[str]) -> bool:
    """Return whether ``table`` names the operation or all its overloads."""
    return name_of(op) in table or full_name(op) in table


@cache
def pointwise(op: Any) -> bool:
    return torch.Tag.pointwise in op.tags


@cache
def launches(op: Any) -> bool:
    """Return whether the operation launches a kernel; views do not."""
    return not (getattr(op, "is_view", False) or listed(op, NO_KERNEL))


@cache
def has_kernel(op: Any) -> bool:
    """Return whether this build of torch has a CUDA kernel of the operation, True in a build without CUDA.

    A wheel for CUDA registers its kernels on a machine without a GPU too.
    """
    if torch.version.cuda is None or "mkldnn_rnn" in name_of(op):  # the CPU's stand-in for cuDNN's recurrent kernels
        return True
    try:
        return torch._C._dispatch_has_computed_kernel_for_dispatch_key(full_name(op), "CUDA")
    except RuntimeError:
        return True
