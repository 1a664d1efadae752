"""Secret-shared jobs on SPU and their costs, as a separate program: ``python spu_worker.py < request.json``.

It imports nothing of the suite, so that it can run in an environment without torch. Request: ``{"jobs": [...]}``,
each job one of

* ``{"kind": "vote", "widths": [784, 10], "owners": 20, "rows": 100}``: every owner's model on every row, the vote of
  the models that are kept, and its winner;
* ``{"kind": "validate", ...}``: every owner's model on every row, accuracy, comparison with a threshold;
* ``{"kind": "predict", "widths": ..., "rows": ...}``: one model on every row, and the likeliest class;
* ``{"kind": "train", "widths": ..., "rows": 100, "steps": 5}``: steps of SGD on batches of that size.

Answer, the last line of standard output: engine, protocol and, for each job, wall seconds and the largest difference
from the same computation in the clear. The engine itself writes each party's traffic to standard output, between the
lines ``job K begins`` and ``job K ends``; the caller reads it there.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spu
from spu import libspu
from spu.utils import frontend

PARTIES = 3
FRACTION_BITS = 18
Job = tuple[Callable[..., Any], list[Any]]
"""A function of secret arguments, and its arguments."""


def config() -> Any:
    """Return the configuration of ABY3: replicated sharing among three parties, one of which may be corrupted."""
    made = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64)
    made.fxp_fraction_bits = FRACTION_BITS
    made.enable_hal_profile = made.enable_pphlo_profile = True
    return made


def run(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[list[Any], float]:
    """Run a function of secret arguments by three parties in threads; return results and wall seconds."""
    names = [f"in{k}" for k in range(len(arguments))]
    secret = [libspu.Visibility.VIS_SECRET] * len(arguments)
    program, _ = frontend.compile(
        frontend.Kind.JAX,
        function,
        arguments,
        {},
        names,
        secret,
        lambda outputs: [f"out{k}" for k in range(len(outputs))],
        static_argnums=(),
        copts=libspu.CompilerOptions(),
    )
    io = spu.Io(PARTIES, config())
    shares = [io.make_shares(np.asarray(value), libspu.Visibility.VIS_SECRET) for value in arguments]
    link = libspu.link.Desc()
    for rank in range(PARTIES):
        link.add_party(f"party{rank}", f"thread{rank}")
    outputs: list[Any] = [None] * PARTIES
    faults: list[BaseException] = []

    def party(rank: int) -> None:
        try:
            runtime = spu.Runtime(libspu.link.create_mem(link, rank), config())
            for name, share in zip(names, shares, strict=True):
                runtime.set_var(name, share[rank])
            runtime.run(program)
            outputs[rank] = [runtime.get_var(name) for name in program.output_names]
        except BaseException as fault:  # a thread's fault is the job's
            faults.append(fault)

    threads = [threading.Thread(target=party, args=(rank,)) for rank in range(PARTIES)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if faults:
        raise faults[0]
    return [io.reconstruct(list(parts)) for parts in zip(*outputs, strict=True)], seconds


def forward(weights: Sequence[Any], x: Any) -> Any:
    """Return logits of a fully connected ReLU network; weights are [w, b, ...], perhaps with a leading owner axis."""
    for layer in range(0, len(weights), 2):
        x = jnp.matmul(x, weights[layer]) + weights[layer + 1][..., None, :]
        if layer + 2 < len(weights):
            x = jnp.maximum(x, 0)
    return x


def winners(logits: Any, classes: int) -> Any:
    """Return a one-hot of the largest entry of the last axis."""
    return (jnp.argmax(logits, axis=-1)[..., None] == jnp.arange(classes)).astype(jnp.float32)


def network(rng: np.random.Generator, widths: Sequence[int], owners: tuple[int, ...] = ()) -> list[Any]:
    """Return random weights at the scale of initialisation."""
    made: list[Any] = []
    for inputs, outputs in pairwise(widths):
        made += [rng.normal(size=(*owners, inputs, outputs)) / np.sqrt(inputs), np.zeros((*owners, outputs))]
    return [part.astype(np.float32) for part in made]


def vote(job: dict[str, Any], rng: np.random.Generator) -> Job:
    classes, owners = job["widths"][-1], job["owners"]
    x, kept = rng.random((job["rows"], job["widths"][0]), dtype=np.float32), np.ones(owners, dtype=np.float32)

    def ballot(x: Any, kept: Any, *weights: Any) -> Any:
        votes = (winners(forward(weights, x), classes) * kept[:, None, None]).sum(axis=0)
        return jnp.argmax(votes, axis=-1)

    return ballot, [x, kept, *network(rng, job["widths"], (owners,))]


def validate(job: dict[str, Any], rng: np.random.Generator) -> Job:
    classes = job["widths"][-1]
    x = rng.random((job["rows"], job["widths"][0]), dtype=np.float32)
    labels = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, job["rows"])]

    def verdict(x: Any, labels: Any, *weights: Any) -> Any:
        hits = (winners(forward(weights, x), classes) * labels).sum(axis=(1, 2))
        return (hits > job["threshold"] * job["rows"]).astype(jnp.float32)

    return verdict, [x, labels, *network(rng, job["widths"], (job["owners"],))]


def predict(job: dict[str, Any], rng: np.random.Generator) -> Job:
    x = rng.random((job["rows"], job["widths"][0]), dtype=np.float32)
    return (lambda x, *weights: jnp.argmax(forward(weights, x), axis=-1)), [x, *network(rng, job["widths"])]


def train(job: dict[str, Any], rng: np.random.Generator) -> Job:
    classes, steps = job["widths"][-1], job["steps"]
    x = rng.random((steps, job["rows"], job["widths"][0]), dtype=np.float32)
    labels = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, (steps, job["rows"]))]

    def gradients(weights: Sequence[Any], x: Any, labels: Any) -> list[Any]:
        """Return gradients in closed form, as secret-sharing frameworks do: softmax minus label, back through ReLUs."""
        inputs = [x]
        for layer in range(0, len(weights) - 2, 2):
            inputs.append(jnp.maximum(inputs[-1] @ weights[layer] + weights[layer + 1], 0))
        logits = inputs[-1] @ weights[-2] + weights[-1]
        error = (jax.nn.softmax(logits) - labels) / len(x)
        found: list[Any] = []
        for layer in range(len(weights) - 2, -1, -2):
            below = inputs[layer // 2]
            found = [below.T @ error, error.sum(axis=0), *found]
            if layer:
                error = (error @ weights[layer].T) * (below > 0)
        return found

    def learn(x: Any, labels: Any, *weights: Any) -> Any:
        for step in range(steps):
            pairs = zip(weights, gradients(weights, x[step], labels[step]), strict=True)
            weights = tuple(weight - job["lr"] * slope for weight, slope in pairs)
        return weights

    return learn, [x, labels, *network(rng, job["widths"])]


KINDS = {"vote": vote, "validate": validate, "predict": predict, "train": train}


def answer(line: str) -> None:
    """Write one line to the caller at once, because the engine writes to the same stream."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    answers = []
    for number, job in enumerate(json.load(sys.stdin)["jobs"]):
        function, arguments = KINDS[job["kind"]](job, np.random.default_rng(0))
        answer(f"job {number} begins")
        found, seconds = run(function, arguments)
        answer(f"job {number} ends")
        clear = function(*[jnp.asarray(value) for value in arguments])
        clear = clear if isinstance(clear, (list, tuple)) else [clear]
        pairs = [(np.asarray(a, dtype=float), np.asarray(b, dtype=float)) for a, b in zip(found, clear, strict=True)]
        answers.append({"seconds": seconds, "largest_difference": max(float(np.abs(a - b).max()) for a, b in pairs)})
    version = f"spu {spu.__version__}"
    about = {"engine": version, "protocol": f"ABY3, 3 parties, ring 2^64, {FRACTION_BITS} fraction bits"}
    answer(json.dumps({**about, "jobs": answers}))


if __name__ == "__main__":
    main()
