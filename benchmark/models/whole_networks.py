"""Whole networks from elsewhere as classifiers of the suite, first of all one that a function of yours makes.

A network is taken apart into a body and its last linear layer, which defenses and attacks read, and tried once on a
made-up sample: what it cannot take is told before anything is trained. It may start from weights of a safetensors file,
as the owner's models of a cell do; nobody else's, see :func:`newly_initialised`.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.data.content import content_digest, located
from benchmark.errors import ConfigError, DataMissing
from benchmark.models.base import Classifier

VERSION = 1


class WholeNetwork(Classifier):
    """Classifier made of a whole network, perhaps with weights to start from.

    Args:
        whole: of logits, (n, *sample) -> (n, classes).
        called: how the user named the network, for messages.
        margin: pixels that images get to the left, right, top and bottom of them.
        weights, content: see :class:`Factory`.

    Class attributes:
        remedy: a sentence on what to do where the network cannot take the samples.
    """

    remedy: ClassVar[str] = ""

    def __init__(
        self,
        whole: nn.Module,
        called: str,
        *,
        shape: tuple[int, ...],
        num_classes: int,
        margin: tuple[int, int, int, int] = (0, 0, 0, 0),
        weights: str | None,
        content: str | None,
    ) -> None:
        state = read_weights(weights, content)
        own = {name.partition(".")[0] for name in state or ()} == {"body", "head"}  # of such a classifier
        if state is not None and not own:
            fill(whole, state, f"The weights in {weights}", called)
        if any(margin):
            whole = nn.Sequential(nn.ZeroPad2d(margin), whole)
        super().__init__(*taken_apart(whole, shape, num_classes, called, self.remedy))
        if state is not None and own:
            fill(self, state, f"The weights in {weights}", called)


class Factory(WholeNetwork):
    """Network that a function of yours makes.

    Args:
        shape: of one sample.
        num_classes: number of logits.
        call: name of the function, ``module:function``; it is part of the key.
        function: the function itself, called as ``function(shape=..., num_classes=...)``. It returns a module of logits
            that ends in an ``nn.Linear`` with a bias.
        weights: safetensors file of the module's state; None: as the function returns it.
        content: required hex digest of that file, or None for any.

    Raises:
        ConfigError: the function returns no such module, or the module cannot take the samples.
        DataMissing: the file of weights is missing, damaged or of another network.
    """

    first_layer = "unknown"

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (1, 28, 28),
        num_classes: int = 10,
        call: str = "",
        function: Callable[..., nn.Module],
        weights: str | None = None,
        content: str | None = None,
    ) -> None:
        called = f"model.call={call}" if call else f"The function {getattr(function, '__name__', function)}"
        made = _made(function, called, shape, num_classes)
        super().__init__(made, called, shape=shape, num_classes=num_classes, weights=weights, content=content)


def _made(function: Callable[..., nn.Module], called: str, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    try:
        inspect.signature(function).bind(shape=shape, num_classes=num_classes)
    except TypeError as error:
        raise ConfigError(f"{called} must take shape= and num_classes= and no other argument: {error}.") from error
    made = function(shape=shape, num_classes=num_classes)
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{called} must return a torch.nn.Module, it returned a {type(made).__name__}.")
    return made


# -- taking apart -----------------------------------------------------------------------------------------------------
def taken_apart(
    net: nn.Module, shape: tuple[int, ...], num_classes: int, called: str, remedy: str = ""
) -> tuple[nn.Module, nn.Linear]:
    """Return the body of ``net``, (n, *shape) -> (n, features), and its head, (n, features) -> (n, classes).

    Args:
        called: how the user named the network, for messages.
        remedy: a sentence on what to do where it cannot take such samples.

    Raises:
        ConfigError: it cannot take such samples, returns something else than (n, classes) logits, has no gradients, or
            its logits do not come from a last linear layer with a bias.
    """
    training = net.training
    net.eval()
    x = torch.linspace(0, 1, 2 * math.prod(shape)).view(2, *shape)
    logits = _tried(net, x, called, remedy)
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        told = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ConfigError(f"{called} must return logits (n, {num_classes}); of 2 samples it returned {told}.")
    if not logits.requires_grad:
        raise ConfigError(
            f"{called} has no gradients: its logits depend on no parameter that learns. A model without gradients is "
            "an option of its own with a method `fit`, as random_forest is."
        )
    ends = [(name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    name, last = ends[-1] if ends else ("", None)
    head = _head(last, num_classes)
    if name and head is not None:
        put(net, name, nn.Identity())
        features = _tried(net, x, called, remedy)
        fits = isinstance(features, Tensor) and features.shape == (2, head.in_features)
        if fits and (isinstance(last, nn.Conv2d) or torch.allclose(head(features), logits, rtol=1e-3, atol=1e-5)):
            return net.train(training), head
    raise ConfigError(
        f"The logits of {called} do not come from a last nn.Linear(features, {num_classes}) with a bias, which attacks "
        "and defenses read; let the network end in one."
    )


def _head(last: nn.Module | None, num_classes: int) -> nn.Linear | None:
    """Return the last layer as a linear one; a 1x1 convolution that is averaged is one behind the averaging."""
    if isinstance(last, nn.Linear) and last.out_features == num_classes and last.bias is not None:
        return last
    if not isinstance(last, nn.Conv2d) or last.out_channels != num_classes or last.kernel_size != (1, 1):
        return None
    if last.bias is None or last.groups != 1:
        return None
    head = nn.Linear(last.in_channels, num_classes)
    head.load_state_dict({"weight": last.weight.detach().flatten(1), "bias": last.bias.detach()})
    return head


def put(net: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` in the place of the submodule of this dotted name."""
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, layer)


def _tried(net: nn.Module, x: Tensor, called: str, remedy: str) -> object:
    try:
        return net(x)
    except Exception as error:  # whatever the network's own code raises
        raise ConfigError(cannot_take(called, x.shape[1:], error) + remedy) from error


def cannot_take(called: str, shape: Sequence[int], error: Exception) -> str:
    """Return a sentence on what a network said of samples of this shape."""
    told = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
    return f"{called} cannot take samples of shape {tuple(shape)}: {told}."


# -- weights ----------------------------------------------------------------------------------------------------------
def read_weights(weights: str | None, content: str | None) -> Mapping[str, Tensor] | None:
    """Return the state in the safetensors file ``weights``, or None where none is named; nothing is unpickled.

    Args:
        content: hex digest that the file must have, or None for any.

    Raises:
        DataMissing: there is no such file, or it is damaged or another one.
    """
    if weights is None:
        if content is not None:
            raise DataMissing(
                f"This cell starts from weights of digest {content}; name their file, model.weights=FILE."
            )
        return None
    file = located(weights, None)
    if file is None or not file.is_file():
        raise DataMissing(f"model.weights={weights}: there is no such file.")
    if content is not None and content_digest(file) != content:
        raise DataMissing(f"{file} is not the file that model.content names; get it again or correct the digest.")
    stat = file.stat()
    return _read(file, stat.st_mtime_ns, stat.st_size)


def newly_initialised(architecture: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return the architecture without the weights that it may start from: for models that are not their owner's."""
    if getattr(architecture, "keywords", {}).get("weights") is None:
        return architecture
    return partial(architecture, weights=None, content=None)


def fill(net: nn.Module, state: Mapping[str, Tensor], source: str, called: str) -> None:
    """Load ``state`` into ``net``.

    Raises:
        DataMissing: it has other names or shapes; the message begins with ``source``.
    """
    if fault := _difference(state, net.state_dict()):
        raise DataMissing(f"{source} do not fit {called}: {fault}")
    net.load_state_dict(dict(state))


@lru_cache(maxsize=2)
def _read(file: Path, changed: int, size: int) -> Mapping[str, Tensor]:
    """Return the tensors of a file, which is read once as long as it does not change."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(file.read_bytes())
    except SafetensorError as error:
        raise DataMissing(
            f"{file} is no safetensors file ({error}); use safetensors.torch.save_file(net.state_dict(), FILE)."
        ) from error
    if strange := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise DataMissing(f"{file} holds values that are not finite, in {strange[0]}.")
    return tensors


def _difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return a sentence on the first difference in names or shapes, or an empty text."""
    for name in wanted:
        if name not in found:
            return f"they have no {name}{nearest(name, found)}"
        if found[name].shape != wanted[name].shape:
            return f"{name} is {tuple(found[name].shape)}, and {tuple(wanted[name].shape)} is needed."
    for name in found:
        if name not in wanted:
            return f"the network has no {name}{nearest(name, wanted)}"
    return ""


def nearest(name: str, options: Iterable[str]) -> str:
    """Return the end of a sentence on an unknown ``name``: ``; did you mean X or Y?``, or a full stop."""
    close = difflib.get_close_matches(name, list(options), n=3, cutoff=0.8)
    return f"; did you mean {' or '.join(close)}?" if close else "."
