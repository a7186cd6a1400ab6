"""One parameter's gradient for each row of a batch, in whichever form is cheapest to hold.

Guarantees, for each form: `squares` is the squared L2 norm of the very vector of which
`weighted_sum` takes a multiple, to 1e-5 but for coordinates below 1e-19, far below any clip; rows
with factor 0 are left out of the sum, even those that are not finite, and so are those of which a
product's side would overflow under a factor above 1. A product's sides may be as
small as float32 goes; where a norm is computed from other products than the sum is, the rounding of
the terms is added to the norm.

Source: Goodfellow (2015) for |a|^2 |g|^2; Li et al. (2021) for its form over positions; Bu et al.
(2022), "Differentially private optimization on large model at small cost", for the weighted sum.

Shapes: b rows, n groups, T positions, i inputs, o outputs; `size` is the parameter's.
"""

import math
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

_NORM_BLOCK = 4096  # coordinates squared and summed in float32; longer sums lose per cents
# An input norm beyond it counts as infinite: g * c may round by 2^-150, which times 1e30 and the
# root of 65,536 outputs is 1e-13 still, far below `MIN_CLIPPING_NORM`.
_LARGEST_INPUT = 1e30
# Squares below 1.2e-38 are lost: 1e-6 of this for 1e12 coordinates.
_SAFE_SQUARE = 1e-20
_ROUNDING = torch.finfo(torch.float32).eps
# Instantiating takes o i products a position, and as long again as 2 positions to read what was
# written; Gram matrices take T (i + o) a position.
_READING = 2  # positions


class RowGradients(ABC):
    """The gradients of b rows for one parameter."""

    @abstractmethod
    def squares(self) -> Tensor:
        """Squared norms, float64 (b,); infinite or NaN for a row that must count as zero."""

    @abstractmethod
    def weighted_sum(self, factors: Tensor) -> Tensor:
        """sum_i factors[i] * gradient_i, float32 (size,), for factors (b,), each 0 or more."""

    @abstractmethod
    def dense(self) -> Tensor:
        """Return the gradients themselves, (b, size)."""

    @abstractmethod
    def held(self) -> int:
        """Bytes that this object keeps alive."""

    def __add__(self, other: "RowGradients") -> "RowGradients":
        """Another use of the same parameter: gradients add up before any norm is taken."""
        return Dense(self.dense() + other.dense())


class Dense(RowGradients):
    """The gradients as they are, (b, size)."""

    def __init__(self, samples: Tensor) -> None:
        self._samples = samples

    def squares(self) -> Tensor:
        """See `RowGradients`."""
        return _row_squares(self._samples)

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """See `RowGradients`."""
        return _kept(self._samples, factors).T @ factors

    def dense(self) -> Tensor:
        """See `RowGradients`."""
        return self._samples

    def held(self) -> int:
        """See `RowGradients`."""
        return self._samples.nbytes


class Kernels(RowGradients):
    """Gradients of a convolution's kernel, in the order in which its patches are read.

    Args:
        samples: (Q, b, out, R, *rest, channels), for a kernel (out, channels, Q R, *rest).
    """

    def __init__(self, samples: Tensor) -> None:
        self._samples = samples

    def squares(self) -> Tensor:
        """See `RowGradients`."""
        return torch.stack([_row_squares(part.flatten(1)) for part in self._samples]).sum(0)

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """See `RowGradients`."""
        sums = [_kept(part.flatten(1), factors).T @ factors for part in self._samples]
        return self._turned(torch.stack(sums).unsqueeze(1)).view(-1)

    def dense(self) -> Tensor:
        """See `RowGradients`."""
        return self._turned(self._samples)

    def held(self) -> int:
        """See `RowGradients`."""
        return self._samples.nbytes

    def _turned(self, samples: Tensor) -> Tensor:
        """Bring samples of b or fewer rows into the parameter's order, (rows, size)."""
        samples = samples.view(*samples.shape[:2], *self._samples.shape[2:])
        return samples.movedim(-1, 3).movedim(0, 3).flatten(1)  # (rows, out, channels, Q, R, ...)


class Products(RowGradients):
    """sum_t g_t a_t^T, not carried out: the weight of a linear map, at T positions, in n groups.

    Args:
        inputs: a, (b, n, T, i).
        outputs: g, the loss's gradient by the map's output, (b, n, T, o).
    """

    def __init__(self, inputs: Tensor, outputs: Tensor) -> None:
        self._inputs, self._outputs = inputs, outputs

    @classmethod
    def pay(cls, positions: int, inputs: int, outputs: int) -> bool:
        """Whether norms from products beat norms from instantiated gradients."""
        gram = positions**2 * (inputs + outputs)
        return positions == 1 or gram < _READING * inputs * outputs

    def squares(self) -> Tensor:
        """One position: |a|^2 |g|^2. More: sum over t, s of (a_t . a_s) (g_t . g_s).

        Products that cancel leave of the Gram sum, and of the weighted sum, what was rounded:
        |a| |g| times float32's epsilon is added to such a norm.
        """
        of_inputs = _square_sums(self._inputs.flatten(2))  # (b, n)
        of_outputs = _square_sums(self._outputs.flatten(2))  # (b, n)
        if self._inputs.shape[2] == 1:
            squares = (of_inputs * of_outputs).sum(1)
        else:
            inputs, outputs = self._inputs.double(), self._outputs.double()
            gram = (inputs @ inputs.mT).mul_(outputs @ outputs.mT)  # (b, n, T, T)
            rounded = _ROUNDING * (of_inputs.sum(1) * of_outputs.sum(1)).sqrt()
            squares = (gram.sum((1, 2, 3)).clamp(min=0).sqrt() + rounded).square()
        return squares.where(of_inputs.sum(1) <= _LARGEST_INPUT**2, torch.inf)

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """See `RowGradients`."""
        inputs, outputs = _kept(self._inputs, factors), _kept(self._outputs, factors)
        outputs = outputs * factors.view(-1, 1, 1, 1)
        if (factors > 1).any():
            # A short product may have a side that overflows once it is made longer: inputs of 0
            # hide any output from the norm. Such a row is left out, which is never above the clip.
            whole = outputs.flatten(1).isfinite().all(1)
            inputs, outputs = _kept(inputs, whole), _kept(outputs, whole)
        # Rows and positions are summed alike: (n, o, b T) @ (n, b T, i).
        left = outputs.permute(1, 3, 0, 2).flatten(2)
        right = inputs.transpose(0, 1).flatten(1, 2)
        return (left @ right).view(-1)

    def dense(self) -> Tensor:
        """See `RowGradients`."""
        return (self._outputs.mT @ self._inputs).flatten(1)

    def held(self) -> int:
        """See `RowGradients`."""
        return self._inputs.nbytes + self._outputs.nbytes


def of_products(inputs: Tensor, outputs: Tensor) -> RowGradients:
    """sum_t g_t a_t^T in its cheaper form; inputs (b, n, T, i), outputs (b, n, T, o)."""
    if Products.pay(inputs.shape[2], inputs.shape[3], outputs.shape[3]):
        return Products(inputs, outputs)
    return Dense((outputs.mT @ inputs).flatten(1))


class Lookups(RowGradients):
    """Gradients of a table's entries (V, D) that are zero but for those that a row looked up.

    Args:
        rows: which row of the batch each of u sums belongs to, (u,).
        entries: which entry, (u,); no (row, entry) twice.
        sums: the gradient of that entry by that row, (u, D).
        shape: (b, V).
    """

    def __init__(self, rows: Tensor, entries: Tensor, sums: Tensor, shape: tuple[int, int]) -> None:
        self._rows, self._entries, self._sums, self._shape = rows, entries, sums, shape

    @classmethod
    def of(cls, indices: Tensor, gradients: Tensor, size: int, left_out: int | None) -> Self:
        """Sum gradients (b, T, D) over the positions at which indices (b, T) are equal.

        Args:
            indices: int64 below `size`.
            gradients: by the looked-up vectors.
            size: V.
            left_out: an index whose entry does not learn.
        """
        rows = torch.arange(len(indices), device=indices.device).unsqueeze(1)
        flat, vectors = (rows * size + indices).flatten(), gradients.flatten(0, 1)
        if left_out is not None:
            learns = indices.flatten() != left_out
            flat, vectors = flat[learns], vectors[learns]
        keys, position = torch.unique(flat, return_inverse=True)
        sums = vectors.new_zeros(len(keys), vectors.shape[1]).index_add_(0, position, vectors)
        shape = (len(indices), size)
        return cls(torch.div(keys, size, rounding_mode="floor"), keys % size, sums, shape)

    def squares(self) -> Tensor:
        """Sum over each row's entries, float64."""
        zeros = self._sums.new_zeros(self._shape[0], dtype=torch.float64)
        return zeros.index_add_(0, self._rows, _square_sums(self._sums))

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """See `RowGradients`."""
        weights = factors[self._rows]  # (u,)
        sums = _kept(self._sums, weights) * weights.unsqueeze(1)
        zeros = sums.new_zeros(self._shape[1], sums.shape[1])
        return zeros.index_add_(0, self._entries, sums).view(-1)

    def dense(self) -> Tensor:
        """See `RowGradients`."""
        samples = self._sums.new_zeros(*self._shape, self._sums.shape[1])
        samples[self._rows, self._entries] = self._sums
        return samples.flatten(1)

    def held(self) -> int:
        """See `RowGradients`."""
        return self._sums.nbytes


def _row_squares(samples: Tensor) -> Tensor:
    """Squared norms of samples (..., size), float64: short blocks in float32, then exactly."""
    size = samples.shape[-1]
    whole = size // _NORM_BLOCK * _NORM_BLOCK
    norms: Tensor
    if not whole:
        norms = torch.linalg.vector_norm(samples, dim=-1)
        return norms.double().square_()
    blocks = samples[..., :whole].view(*samples.shape[:-1], -1, _NORM_BLOCK)
    norms = torch.linalg.vector_norm(blocks, dim=-1)
    if whole < size:
        rest = torch.linalg.vector_norm(samples[..., whole:], dim=-1, keepdim=True)
        norms = torch.cat([norms, rest], dim=-1)
    return norms.double().square_().sum(-1)


def _square_sums(values: Tensor) -> Tensor:
    """As `_row_squares`, and again in float64 where float32's squares under- or overflowed."""
    squares = _row_squares(values)
    if squares.numel():
        least, most = (bound.item() for bound in squares.aminmax())  # NaN where there is any
        if not (least >= _SAFE_SQUARE and most < math.inf):
            doubtful = ~((squares >= _SAFE_SQUARE) & (squares < math.inf))
            squares[doubtful] = values[doubtful].double().square_().sum(-1)
    return squares


def _kept(values: Tensor, factors: Tensor) -> Tensor:
    """`values` (b, ...), zero in rows whose factor is 0 or False, since 0 * infinity is NaN."""
    if factors.all():
        return values
    return values.where((factors > 0).view(-1, *[1] * (values.ndim - 1)), 0)
