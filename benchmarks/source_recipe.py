"""What the source's program takes: stock layers, its data, its settings, each model trained once.

python -m benchmarks.source_recipe prints a line of JSON. Chapter section 5.9: ReLU, Adam at 0.001, batches of 32, 40
epochs of the CNN-LSTM and 80 of the ConvLSTM on 80 clips drawn as its code draws them, and a test on 80 more.
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pipeline  # noqa: F401 # puts src/ on the path, as for the stages
from motionbench.data.sources import write_split
from motionbench.data.splits import read_split
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.loading import load_params

EPOCHS = {"cnn_lstm": 40, "convlstm": 80}


def main() -> None:
    """Draw, train, test."""
    started = time.perf_counter()
    with importing_tensorflow():
        import keras

        from benchmarks.one_side import stock_model
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    data = params.data.model_copy(update={"variant": "notebook"})
    accuracies = {}
    with TemporaryDirectory() as folder:
        for name in ("train", "test"):
            Path(folder, name).mkdir()
            write_split(Path(folder, name), name, data)
        train, test = (read_split(Path(folder, name), data) for name in ("train", "test"))
        for name, epochs in EPOCHS.items():
            section = params.model(name).model_copy(update={"activation": "relu"})
            model = stock_model(name, section, train.clips.shape[1:])
            optimizer = keras.optimizers.Adam(0.001)
            model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
            model.fit(train.clips, train.labels, batch_size=32, epochs=epochs, verbose=0)
            accuracies[name] = model.evaluate(test.clips, test.labels, verbose=0)[1]
    print(json.dumps({"seconds": time.perf_counter() - started, "accuracies": accuracies}))


if __name__ == "__main__":
    main()
