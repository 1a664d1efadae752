"""A CUDA device on a machine without one: arithmetic of the CPU under the rules of CUDA.

    with PretendedDevice() as device:
        x = torch.zeros(3).to("cuda")  # x.device is cuda:0
    device.faults, device.waits, device.kernels

A tensor lies on the device when its storage is in a table of weak references, so views, tensors that autograd saved and
functorch's wrappers need no care of their own. Two modes of torch work together. The one for Python's calls answers
``.device``, plays moves and factories, and replaces ``cuda`` by ``cpu`` in arguments. The one for operations sees each
ATen operation that runs, also in backward passes and under ``vmap``, applies :mod:`~tests.accelerator.rules`, counts,
and puts the results on the device.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.accelerator import rules
from tests.accelerator.rules import listed

DEVICE = torch.device("cuda:0")
REPOSITORY = Path(__file__).resolve().parents[2]
OWN_FILES = (__file__, rules.__file__)

TWO_DEVICES = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
STRAY_INDEX = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
STRAY_GENERATOR = "Expected a 'cuda' device type for generator but found 'cpu'"
EARLY = "a copy from cuda:0 without a wait (non_blocking) is read before it is complete"
NO_NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."

_storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}  # address of a storage on the device -> the storage


class DeviceError(RuntimeError):
    """An error that CUDA would raise."""


class DeviceTypeError(TypeError):
    """An error that CUDA would raise as a TypeError."""


@dataclass(frozen=True)
class Fault:
    """Something that fails on a GPU: ``place`` is file:line of the innermost frame outside torch."""

    place: str
    message: str


def _storage(tensor: Tensor) -> torch.UntypedStorage | None:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse or symbolic tensors have none
        return None


def on_device(tensor: Tensor) -> bool:
    """Return whether ``tensor`` lies on the pretended device."""
    storage = _storage(tensor)
    return storage is not None and storage._cdata in _storages


def put(tensor: Tensor, device: bool) -> Tensor:
    """Say that the storage of ``tensor`` lies on the pretended device, or on the CPU, and return ``tensor``."""
    storage = _storage(tensor)
    if storage is not None:
        address = storage._cdata
        if not device:
            _storages.pop(address, None)
        elif address not in _storages:
            _storages[address] = weakref.ref(storage, lambda _: _storages.pop(address, None))
    return tensor


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from tensors_in(part)
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class PretendedDevice:
    """Context in which ``cuda`` is a device of this machine.

    Args:
        strict: raise a :class:`DeviceError` at the first fault; else faults are noted and the work goes on.

    Attributes:
        faults: what CUDA would refuse.
        waits: (place, kind) -> how often the host waited for the device, or copied to it.
        kernels: number of operations that launch at least one kernel.
        unrepeatable: (place, operation) -> uses of operations without a deterministic kernel.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.faults: list[Fault] = []
        self.waits: Counter[tuple[str, str]] = Counter()
        self.unrepeatable: Counter[tuple[str, str]] = Counter()
        self.kernels = 0
        self.calls: list[
            tuple[Any, bool]
        ] = []  # Python's calls in progress, and whether they were given device tensors
        self.quiet = 0

    @property
    def waited(self) -> int:
        """Return the number of waits."""
        return self.waits.total()

    def __enter__(self) -> PretendedDevice:
        with ExitStack() as stack:
            for where, name, replacement in _replacements():
                stack.enter_context(mock.patch.object(where, name, replacement))
            stack.enter_context(_Operations(self))
            stack.enter_context(_PythonCalls(self))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    def fault(self, message: str, error: type[Exception] = DeviceError) -> None:
        self.faults.append(Fault(_place(), message))
        if self.strict:
            raise error(message)

    def wait(self, kind: str) -> None:
        if not self.quiet:
            self.waits[_place(), kind] += 1


def _place() -> str:
    """Return file:line of the innermost frame in the suite, else of the innermost one outside installed packages."""
    frame, outside = sys._getframe(1), "?"
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if frame.f_code.co_filename not in OWN_FILES and path.is_relative_to(REPOSITORY):
            inside = path.relative_to(REPOSITORY)
            if inside.parts[0] in ("benchmark", "runners"):
                return f"{inside}:{frame.f_lineno}"
            if outside == "?" and inside.parts[0] == "tests":
                outside = f"{inside}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return outside


def _replacements() -> list[tuple[Any, str, Any]]:
    """Return the functions of torch that need a GPU, or look for one, with harmless ones in their place."""

    def nothing(*_: Any, **__: Any) -> None:
        """Do nothing."""

    parse = torch._C._nn._parse_to

    def parse_to(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Read the arguments of ``Module.to``, where a tensor of the pretended device may be among them."""
        like = args[0] if args and isinstance(args[0], Tensor) else kwargs.get("tensor")
        device, *rest = parse(*args, **kwargs)
        return (DEVICE if like is not None and on_device(like) else device, *rest)

    return [
        (torch.cuda, "synchronize", nothing),
        (torch.cuda, "empty_cache", nothing),
        (torch.cuda, "reset_peak_memory_stats", nothing),
        (torch.cuda, "max_memory_allocated", lambda *_: 0),
        (torch.cuda, "device", lambda *_: nullcontext()),
        (torch.cuda, "device_of", lambda *_: nullcontext()),
        (nn.RNNBase, "flatten_parameters", nothing),
        (torch._C._nn, "_parse_to", parse_to),
    ]


class _Move(torch.autograd.Function):
    """A copy to the other device, whose gradient is copied back."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, device: bool, owner: PretendedDevice) -> Tensor:
        return put(x.clone(), device)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.came_from, ctx.owner = on_device(inputs[0]), inputs[2]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        ctx.owner.wait("copy of a gradient")
        return put(slope.clone(), ctx.came_from), None, None


class _PythonCalls(TorchFunctionMode):
    """Plays what Python asks of torch about devices; everything else runs as it is."""

    def __init__(self, owner: PretendedDevice) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        special = _SPECIAL.get(func)
        if special is not None:
            return special(self, func, *args, **kwargs)
        if kwargs.get("device") is not None:
            return self.factory(func, args, kwargs)
        return self.run(func, args, kwargs)

    def run(self, func: Any, args: Any, kwargs: Any, given: bool | None = None) -> Any:
        if given is None:
            given = any(on_device(tensor) for tensor in tensors_in((args, kwargs)))
        self.owner.calls.append((func, given))
        try:
            return func(*args, **kwargs)
        finally:
            self.owner.calls.pop()

    def factory(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Make a tensor where ``device`` says, or convert data to one."""
        there = _is_cuda(kwargs["device"])
        generators = [value for value in kwargs.values() if isinstance(value, torch.Generator)]
        if there and any(generator.device.type != "cuda" for generator in generators):
            self.owner.fault(STRAY_GENERATOR)
        kwargs["device"] = "cpu"
        converts = func in (torch.tensor, torch.as_tensor, torch.asarray)
        if converts and isinstance(args[0], Tensor) and on_device(args[0]) == there and func is not torch.tensor:
            return self.run(func, args, kwargs)
        if converts and there:
            self.owner.wait("tensor from numbers")
        made = self.run(func, args, kwargs, given=False)
        if args and made is args[0]:
            made = made.clone()
        return put(made, there)

    def move(
        self, x: Tensor, there: bool, dtype: torch.dtype | None = None, copy: bool = False, queued: bool = False
    ) -> Tensor:
        if on_device(x) == there:
            return self.run(Tensor.to, (x, dtype or x.dtype), {"copy": copy})
        if queued and not there:
            self.owner.fault(EARLY)
        elif not queued:
            self.owner.wait("copy to the device" if there else "copy from the device")
        differentiable = x.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(x)
        moved = _Move.apply(x, there, self.owner) if differentiable else put(x.clone(), there)
        return moved if dtype in (None, moved.dtype) else self.run(Tensor.to, (moved, dtype), {})

    def to(self, func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        dtype, there = kwargs.get("dtype"), on_device(x)
        for part in (*args, kwargs.get("device"), kwargs.get("other")):
            if isinstance(part, Tensor):
                dtype, there = part.dtype, on_device(part)
            elif isinstance(part, torch.dtype):
                dtype = part
            elif part is not None and not isinstance(part, bool):
                there = _is_cuda(part)
        return self.move(x, there, dtype, bool(kwargs.get("copy")), bool(kwargs.get("non_blocking")))

    def numpy(self, func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if on_device(x):
            self.owner.fault(NO_NUMPY, DeviceTypeError)
        return func(x, *args, **kwargs)

    def tolist(self, func: Any, x: Tensor) -> Any:
        if on_device(x):
            self.owner.wait("tolist")
        return self.uncounted(func, (x,), {}, given=False)

    def one_hot(self, func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Encode; CUDA leaves the check of the range to the kernel where the number of classes is given."""
        classes = args[0] if args else kwargs.get("num_classes", -1)
        return self.run(func, (x, *args), kwargs) if classes == -1 else self.uncounted(func, (x, *args), kwargs)

    def uncounted(self, func: Any, args: Any, kwargs: Any, given: bool | None = None) -> Any:
        self.owner.quiet += 1
        try:
            return self.run(func, args, kwargs, given)
        finally:
            self.owner.quiet -= 1

    def new_tensor(self, func: Any, x: Tensor, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        there = on_device(x) if device is None else _is_cuda(device)
        if there:
            self.owner.wait("tensor from numbers")
        return put(self.run(func, (x, *args), kwargs, given=False), there)

    def recurrent(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Run an LSTM by the rules of cuDNN, which computes it on a GPU unless it is switched off."""
        if torch.backends.cudnn.enabled and any(on_device(tensor) for tensor in tensors_in(args)):
            training = args[6] if isinstance(args[3], bool) else args[7]
            parts = list(tensors_in(args))
            if torch.is_grad_enabled() and any(part.requires_grad for part in parts) and not training:
                self.owner.fault("cudnn RNN backward can only be called in training mode")
            if any(torch._C._functorch.is_functorch_wrapped_tensor(part) for part in parts):
                self.owner.fault("Batching rule and double backward are not implemented for _cudnn_rnn")
        return self.run(func, args, kwargs)


def _device_of(calls: _PythonCalls, func: Any, x: Tensor) -> torch.device:
    return DEVICE if on_device(x) else func(x)


_SPECIAL: dict[Any, Callable[..., Any]] = {
    Tensor.device.__get__: _device_of,  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__: lambda calls, func, x: on_device(x),  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: lambda calls, func, x: not on_device(x),  # type: ignore[attr-defined]
    Tensor.get_device: lambda calls, func, x: 0 if on_device(x) else -1,
    Tensor.to: _PythonCalls.to,
    Tensor.cpu: lambda calls, func, x, *_, **__: calls.move(x, there=False),
    Tensor.cuda: lambda calls, func, x, *_, **__: calls.move(x, there=True),
    Tensor.__deepcopy__: lambda calls, func, x, memo: put(func(x, memo), on_device(x)),
    Tensor.numpy: _PythonCalls.numpy,
    Tensor.__array__: _PythonCalls.numpy,
    Tensor.tolist: _PythonCalls.tolist,
    Tensor.new_tensor: _PythonCalls.new_tensor,
    torch._C._nn.one_hot: _PythonCalls.one_hot,
    torch.lstm: _PythonCalls.recurrent,
    torch._VF.lstm: _PythonCalls.recurrent,  # type: ignore[attr-defined]
}


class _Operations(TorchDispatchMode):
    """Applies the rules to each ATen operation that takes or makes tensors on the device."""

    def __init__(self, owner: PretendedDevice) -> None:
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(tensors_in((args, kwargs)))
        there = [on_device(tensor) for tensor in given]
        # A factory inside a composite operation makes its tensor where the tensors of the caller lie.
        if not (any(there) if given else bool(self.owner.calls) and self.owner.calls[-1][1]):
            return op(*args, **kwargs)
        if given:
            self.check(op, args, kwargs, given, there)
        self.count(op, args, given)
        made = op(*args, **kwargs)
        if not listed(op, CROSSES_IN_PLACE):
            known = {id(tensor) for tensor in given}
            for tensor in tensors_in(made):
                if id(tensor) not in known:
                    put(tensor, True)
        return made

    def check(self, op: Any, args: Any, kwargs: Any, given: list[Tensor], there: list[bool]) -> None:
        fault = self.owner.fault
        if not rules.has_kernel(op):
            fault(f"Could not run '{rules.full_name(op)}' with arguments from the 'CUDA' backend.")
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Generator) and value.device.type != "cuda":
                fault(STRAY_GENERATOR)
        if listed(op, rules.PRODUCTS) and not (given[0].is_floating_point() or given[0].is_complex()):
            fault(f'"addmm_cuda" not implemented for {given[0].dtype}')
        if all(there) or listed(op, rules.CROSSING):
            return
        mixed = f"{TWO_DEVICES} ({rules.full_name(op)})"
        if listed(op, rules.INDEXING):
            home = on_device(args[0])
            if not home and any(index is not None and on_device(index) for index in args[1]):
                fault(STRAY_INDEX)
            if len(args) > 2 and args[2].dim() and on_device(args[2]) != home:
                fault(mixed)
        elif listed(op, rules.SHORT_CUTS_OF_INDEXING) and self._assigns_by_index():
            if not on_device(args[0]):
                fault(STRAY_INDEX)
            else:
                self.owner.wait("index from the CPU")
        elif rules.name_of(op).startswith("aten::_foreach"):
            lists = [part for part in args if isinstance(part, list | tuple) and part and isinstance(part[0], Tensor)]
            for group in zip(*lists, strict=False):
                sides = {on_device(tensor) for tensor in group}
                if len(sides) > 1 and any(tensor.dim() and not on_device(tensor) for tensor in group):
                    fault(mixed)
        elif rules.pointwise(op) or listed(op, rules.TAKES_SCALAR):
            strangers = [tensor for tensor, here in zip(given, there, strict=True) if not here]
            several = len(strangers) > 1 and not listed(op, rules.TAKES_SEVERAL_SCALARS)
            written = rules.name_of(op).endswith("_") and not there[0]
            if written or several or any(tensor.dim() for tensor in strangers):
                fault(mixed)
        else:
            fault(mixed)

    def _assigns_by_index(self) -> bool:
        return bool(self.owner.calls) and self.owner.calls[-1][0] is Tensor.__setitem__

    def count(self, op: Any, args: Any, given: list[Tensor]) -> None:
        owner = self.owner
        owner.kernels += rules.launches(op)
        weighted = rules.name_of(op) == "aten::bincount" and len(given) > 1
        if listed(op, rules.UNREPEATABLE) or weighted:
            owner.unrepeatable[_place(), rules.full_name(op).removeprefix("aten::")] += 1
        if listed(op, rules.WAITS):
            owner.wait(rules.full_name(op).removeprefix("aten::"))
        elif listed(op, rules.INDEXING):
            for index in args[1]:
                if index is None:
                    continue
                if index.dtype in (torch.bool, torch.uint8):
                    owner.wait("index by a mask")
                elif on_device(args[0]) and not on_device(index):
                    owner.wait("index from the CPU")
        elif rules.name_of(op) == "aten::copy_" and on_device(args[0]) != on_device(args[1]):
            owner.wait("copy to the device" if on_device(args[0]) else "copy from the device")


CROSSES_IN_PLACE = frozenset({"aten::copy_", "aten::_foreach_copy_"})
