"""A module's trainable parameters as a flat vector, in the order of `module.named_parameters()`.

A parameter that does not require a gradient is no part of it: after `adaptation.adapt`, the vector
is what is trained and travels.

Not covered: buffers. The architectures here have none that training changes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accord_common.errors import FormatError
from accord_common.vectors import Layout, check_vector


def trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters of the flat vector, in its order."""
    return [(name, item) for name, item in module.named_parameters() if item.requires_grad]


def device_of(module: nn.Module) -> torch.device:
    """Return where the parameters are: all on one device; the CPU for a module without any."""
    return next((value.device for value in module.parameters()), torch.device("cpu"))


def layout_of(module: nn.Module) -> Layout:
    """Return where each parameter lies in the flat vector; `bad-layout` for other than float32."""
    parameters = trainable(module)
    for name, parameter in parameters:
        if parameter.dtype != torch.float32:
            raise FormatError("bad-layout", f"parameter {name!r} is {parameter.dtype}, not float32")
    return Layout(tuple((name, tuple(parameter.shape)) for name, parameter in parameters))


def get_vector(module: nn.Module) -> NDArray[np.float32]:
    """Copy the parameters into one vector, float32 (d,)."""
    arrays = {name: value.detach().cpu().numpy() for name, value in trainable(module)}
    return layout_of(module).flatten(arrays)


def set_vector(
    module: nn.Module, vector: NDArray[np.float32], update: NDArray[np.float32] | None = None
) -> None:
    """Copy `vector`, or `vector + update`, float32 (d,), into the parameters, without another copy.

    Raises:
        FormatError: `bad-vector` where a size is another.
    """
    parameters = [parameter for _, parameter in trainable(module)]
    dimension = sum(parameter.numel() for parameter in parameters)
    for given in (vector,) if update is None else (vector, update):
        check_vector(given, dimension)
    start = 0
    for parameter in parameters:
        stop = start + parameter.numel()
        place, values = parameter.detach().view(-1), vector[start:stop]
        if not place.is_cpu:
            moved = values.copy() if update is None else values + update[start:stop]
            place.copy_(torch.from_numpy(moved))
        elif update is None:
            np.copyto(place.numpy(), values)
        else:
            np.add(values, update[start:stop], out=place.numpy())
        start = stop


def initial_vector(module: nn.Module, seed: int) -> NDArray[np.float32]:
    """Make public initial weights, float32 (d,).

    Matrices are Kaiming-uniform with the linear gain, biases 0; what else there is keeps torch's
    start. A module with a single matrix has no symmetry to break and starts at 0. The seed is
    public: these weights protect nobody, they are uploaded with the manifest.
    """
    generator = torch.Generator().manual_seed(seed)
    vector = get_vector(module)
    arrays = layout_of(module).unflatten(vector)
    matrices = [name for name, array in arrays.items() if array.ndim > 1]
    for name, array in arrays.items():
        if array.ndim > 1 and len(matrices) > 1:
            start = torch.empty(array.shape)
            nn.init.kaiming_uniform_(start, nonlinearity="linear", generator=generator)
            array[...] = start.numpy()
        elif array.ndim > 1 or name.rpartition(".")[2].startswith("bias"):
            array[...] = 0
    return vector
