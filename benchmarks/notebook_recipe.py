"""How long the reference notebook's program takes: stock layers, its data, its settings, each model trained once.

python -m benchmarks.notebook_recipe prints a line of JSON. Chapter section 5.9: ReLU, Adam with a learning rate of
0.001, batches of 32, 40 epochs of the CNN-LSTM and 80 of the ConvLSTM on 80 clips drawn as its code draws them, and a
test on 80 more.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import default_drawing, default_params
from motionbench.data.splits import read_split, write_split
from motionbench.data.synthetic.frames import draw_split
from motionbench.execution.runtime import importing_tensorflow

EPOCHS = {"cnn_lstm": 40, "convlstm": 80}


def main() -> None:
    """Print the result."""
    print(json.dumps(run_notebook()))


def run_notebook(epochs_by_model: Mapping[str, int] = EPOCHS) -> dict[str, Any]:
    """Draw the clips, train and test; return the seconds of all and the accuracy of each model."""
    started = time.perf_counter()
    with importing_tensorflow():
        import keras

        from benchmarks.stock_models import build
    params = default_params()
    data = default_drawing()._replace(variant="notebook")
    accuracies = {}
    with TemporaryDirectory() as folder:
        for name in ("train", "test"):
            write_split(Path(folder, name), draw_split(name, data))
        train, test = (read_split(Path(folder, name)) for name in ("train", "test"))
        for name, epochs in epochs_by_model.items():
            section = params.model(name).model_copy(update={"activation": "relu"})
            model = build(name, section, train.clips.shape[1:], len(train.class_names))
            optimizer = keras.optimizers.Adam(0.001)
            model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
            model.fit(train.clips, train.labels, batch_size=32, epochs=epochs, verbose=0)
            accuracies[name] = model.evaluate(test.clips, test.labels, verbose=0)[1]
    return {"seconds": time.perf_counter() - started, "accuracies": accuracies}


if __name__ == "__main__":
    main()
