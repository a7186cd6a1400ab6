"""A run's whole model for other software: a torch state_dict, or ONNX.

Guarantees: what is written holds numbers and, in ONNX, the graph of the architecture; no Python and
no pickled code: `torch.load(weights_only=True)` reads the state_dict, and nothing here loads one.
ONNX is tried before it counts: by its checker, then run by its reference evaluator on rows of the
model's own input shape and compared with what torch answers (`_TOLERANCE`).

Not covered: encoding rows. Whoever uses the model gives it what the schema makes of a row.
"""

import io
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from accord_common.errors import UsageError, VerificationError
from accord_common.files import replace_file
from accord_common.models.inputs import BRIGHTEST, Inputs, Pixels, Words

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT, OUTPUT = "rows", "logits"
_ROWS = 3  # that are tried: more than the 2 that are traced, so the batch is not fixed
_TOLERANCE = 1e-4  # float32 sums in another order; logits of these models are of the order of 1


def export_torch(module: nn.Module, out: Path) -> None:
    """Write a state_dict, which `torch.load(weights_only=True)` reads.

    Args:
        module: the whole model, adapters merged.
        out: the file.
    """
    state = {name: value.detach().contiguous() for name, value in module.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    replace_file(out, buffer.getvalue())


def export_onnx(module: nn.Module, inputs: Inputs, out: Path, facts: dict[str, str]) -> None:
    """Write ONNX: one input `rows` with any number of rows, one output `logits`.

    Args:
        module: the whole model, adapters merged.
        inputs: what it is given of a row.
        out: the file.
        facts: ride in the metadata.

    Raises:
        UsageError: `export-extra-missing`.
        VerificationError: `export-differs`.
    """
    require_onnx()
    import onnx

    module.eval()
    proto = _traced(module, example(inputs, _ROWS - 1))
    onnx.helper.set_model_props(proto, facts)
    onnx.checker.check_model(proto, full_check=True)
    rows = example(inputs, _ROWS)
    with torch.inference_mode():
        wanted = module(rows).numpy()
    given = answers(proto, rows)
    if given.shape != wanted.shape or not np.allclose(given, wanted, _TOLERANCE, _TOLERANCE):
        raise VerificationError("export-differs", "ONNX answers other logits than the model")
    replace_file(out, proto.SerializeToString())


def require_onnx() -> None:
    """Refuse where what ONNX needs is not installed: UsageError `export-extra-missing`."""
    for name in ("onnx", "onnxscript"):  # torch's exporter imports both
        if find_spec(name) is None:
            raise UsageError(
                "export-extra-missing",
                f"ONNX needs {name}, which is not installed",
                hint="pip install 'accord[export]', or --format torch, which needs nothing more.",
            )


def answers(proto: "ModelProto", rows: Tensor) -> NDArray[np.float32]:
    """What the reference evaluator answers to rows, float32 (B, outputs)."""
    from onnx.reference import ReferenceEvaluator

    (logits,) = ReferenceEvaluator(proto).run([OUTPUT], {INPUT: rows.numpy()})
    return np.asarray(logits)


def example(inputs: Inputs, rows: int) -> Tensor:
    """Rows of the shape and type that a model is given; no row is anybody's."""
    random = torch.Generator().manual_seed(0)
    if isinstance(inputs, Words):
        return torch.randint(0, inputs.numbers, (rows, inputs.length), generator=random)
    if isinstance(inputs, Pixels):
        shape = (rows, inputs.channels, inputs.height, inputs.width)
        return torch.rand(shape, generator=random) * BRIGHTEST
    return torch.randn((rows, inputs), generator=random)


def _traced(module: nn.Module, rows: Tensor) -> "ModelProto":
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # else it tells of operators of packages that nobody uses here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about torch
            program: Any = torch.onnx.export(
                module,
                (rows,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    proto: ModelProto = program.model_proto
    return proto
