"""Train part of a model: layers that stay as they are, and low-rank adapters beside linear layers.

Guarantees: what `adapt` freezes requires no gradient, so no flat vector holds it, no optimiser
moves it, and no clip or noise counts it; an adapter is made of `nn.Linear`, so its gradients for
each row are those of any linear layer. A start of `initial_part` changes no output of the base.

Not covered: that frozen numbers are public. Whoever gets the model gets them as they are: numbers
that were trained on somebody's private rows are protected by nothing here.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord_common.errors import UsageError
from accord_common.manifest import Adaptation, Lora, RunManifest
from accord_common.models.flat import get_vector, set_vector, trainable
from accord_common.models.task import Task
from accord_common.schema import Schema

_SHOWN = 12  # layers in a hint


class LoraLinear(nn.Module):
    """W x + b + B A x: `base` frozen, `down` = A (rank, inputs), `up` = B (outputs, rank).

    Hu et al. 2021, "LoRA", section 4.1, with alpha = rank: its factor alpha/r is then 1, since
    another one is another learning rate.
    """

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        device = base.weight.device
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False, device=device)
        self.up = nn.Linear(rank, base.out_features, bias=False, device=device)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, outputs) for (B, inputs)."""
        result: Tensor = self.base(features) + self.up(self.down(features))
        return result


def build(
    task: Task,
    manifest: RunManifest,
    schema: Schema,
    load: Callable[[Adaptation], NDArray[np.float32]],
) -> nn.Module:
    """Make a run's model; its trained part is to be set by `flat`.

    Args:
        task: the run's.
        manifest: names the architecture, and what stays.
        schema: of the tables.
        load: brings all numbers of the base, float32 (b,), where the manifest adapts one.

    Raises:
        FormatError: `bad-vector` where the base is of another size.
        UsageError: what `task.build` and `adapt` raise.
    """
    module = task.build(manifest.architecture.name, manifest.architecture.args, schema)
    if manifest.adaptation is not None:
        set_vector(module, load(manifest.adaptation))
        adapt(module, manifest.adaptation.frozen, manifest.adaptation.lora)
    return module


def adapt(module: nn.Module, frozen: Sequence[str], lora: Lora | None) -> None:
    """Freeze parameters by name and put adapters beside layers, in place.

    Args:
        module: as `task.build` made it, on any device.
        frozen: a parameter stays whose name is one of these, or begins with one and a dot.
        lora: which layers get adapters; their own parameters stay, whether named above or not.

    Raises:
        UsageError: `unknown-layer`, `not-linear`, `rank-out-of-range`, `nothing-to-train`.
    """
    for name in frozen:
        found = [
            parameter
            for own, parameter in module.named_parameters()
            if own == name or own.startswith(f"{name}.")
        ]
        if not found:
            raise _unknown(module, name)
        for parameter in found:
            parameter.requires_grad_(False)
    if lora is not None:
        layers = dict(module.named_modules())
        for name in lora.layers:
            if name not in layers:
                raise _unknown(module, name)
            _put_beside(module, name, layers[name], lora.rank)
    if not trainable(module):
        raise UsageError(
            "nothing-to-train",
            "every parameter is frozen",
            hint="Leave a layer out of `freeze`, or give one an adapter under `lora`.",
        )


def initial_part(module: nn.Module, seed: int) -> NDArray[np.float32]:
    """Make the start of what an adapted module trains, float32 (d,); the seed is public.

    Layers of the base that are trained start from the base. Adapters start as Hu et al. 2021,
    section 4.1: A random (Kaiming-uniform with a = sqrt(5), as their code has it), B zero.
    """
    generator = torch.Generator().manual_seed(seed)
    for adapter in _adapters(module).values():
        nn.init.kaiming_uniform_(adapter.down.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(adapter.up.weight)
    return get_vector(module)


def merged(module: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Return all arrays of the model under the architecture's own names, W + B A for adapters."""
    adapters = _adapters(module)
    arrays = {}
    for name, parameter in module.named_parameters():
        layer, _, leaf = name.rpartition(".")
        owner, _, part = layer.rpartition(".")
        value = parameter.detach()
        if owner in adapters and part in ("down", "up"):
            continue
        if owner in adapters:
            adapter = adapters[owner]
            name = f"{owner}.{leaf}"
            if leaf == "weight":
                value = value + adapter.up.weight.detach() @ adapter.down.weight.detach()
        arrays[name] = value.numpy()
    return arrays


def _adapters(module: nn.Module) -> dict[str, LoraLinear]:
    return {name: item for name, item in module.named_modules() if isinstance(item, LoraLinear)}


def _put_beside(module: nn.Module, name: str, layer: nn.Module, rank: int) -> None:
    if type(layer) is not nn.Linear:  # a subclass may use its weights in another way
        raise UsageError(
            "not-linear",
            f"layer {name!r} is {type(layer).__name__}; adapters go beside Linear",
            hint=f"Linear: {_listed(module, nn.Linear)}.",
        )
    most = min(layer.in_features, layer.out_features)
    if not 1 <= rank <= most:
        raise UsageError(
            "rank-out-of-range",
            f"rank {rank} for layer {name!r} of {layer.in_features} inputs and "
            f"{layer.out_features} outputs",
            hint=f"It may be 1 to {most}.",
        )
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, LoraLinear(layer, rank))


def _unknown(module: nn.Module, name: str) -> UsageError:
    return UsageError(
        "unknown-layer",
        f"the architecture has no layer {name!r}",
        hint=f"It has {_listed(module, nn.Module)}.",
    )


def _listed(module: nn.Module, kind: type[nn.Module]) -> str:
    names = [
        name
        for name, layer in module.named_modules()
        if name and isinstance(layer, kind) and any(True for _ in layer.parameters(recurse=False))
    ]
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
