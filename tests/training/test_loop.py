from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from motionbench.comparison.pairs import compare_pairs
from motionbench.core.paths import TRAIN, ReplicateKey
from motionbench.data.splits import Split, read_split
from motionbench.data.synthetic.frames import draw_dataset
from motionbench.models.registry import GradientParams
from motionbench.training.loop import (
    build_optimizer,
    build_replicate,
    fit_epochs,
    order_of_clips,
    read_batches,
    reuse_traced,
    variables,
)
from tests.conftest import DRAWN_DATASET, TINY, drawing
from tests.training.conftest import Load


def test_a_process_traces_a_model_once_for_all_its_seeds(params_with: Load, drawn: Path) -> None:
    section, split = params_with(TINY).model("cnn_lstm"), read_split(drawn / TRAIN)
    first, second, new, other = (build_replicate("cnn_lstm", section, split, seed) for seed in (1, 2, 2, 2))
    reused = [reuse_traced(model, alike) for model, alike in ((first, 0), (second, 0), (other, 1))]
    assert [model is first for model in reused] == [True, True, False]
    for pair in zip(variables(first), variables(new), strict=True):
        np.testing.assert_array_equal(*pair)


def test_schedule_and_weight_decay(params_with: Load) -> None:
    settings = {"learning_rate": 0.1, "epochs": 2, "batch_size": 4}
    section = params_with({}).model("convlstm").model_copy(update=settings)

    def rates_and_weight(**changes: Any) -> tuple[list[float], float]:
        """Return the learning rate before each step of two epochs, and a weight after them without gradients."""
        weight, optimizer, rates = keras.Variable([1.0]), build_optimizer(section.model_copy(update=changes), 10), []
        for _ in range(6):
            rates.append(float(optimizer.learning_rate))
            optimizer.apply([keras.ops.zeros(1)], [weight])
        return rates, float(weight[0])

    constant, kept = rates_and_weight()
    assert constant == pytest.approx([0.1] * 6)
    assert kept == 1
    assert rates_and_weight(weight_decay=0.5)[1] == pytest.approx((1 - 0.1 * 0.5) ** 6)
    cosine, less_decayed = rates_and_weight(weight_decay=0.5, learning_rate_schedule="cosine")
    expected = [0.1 * (1 + np.cos(np.pi * step / 6)) / 2 for step in range(6)]
    assert cosine == pytest.approx(expected)
    assert less_decayed == pytest.approx(np.prod([1 - 0.5 * rate for rate in expected]))


def test_each_epoch_reads_every_clip_once_in_its_own_order(drawn: Path) -> None:
    first, again, *others = (order_of_clips(16, *which).tolist() for which in ((1, 1), (1, 1), (1, 2), (2, 1)))
    assert first == again
    assert len({tuple(order) for order in (first, *others)}) == 3
    assert [sorted(order) for order in (first, *others)] == [list(range(16))] * 3
    split = read_split(drawn / TRAIN)
    for order in (None, np.array(first)):
        batches = read_batches(split, 3, order)
        assert not batches.options().autotune.enabled
        read = [(images.numpy(), labels.numpy()) for images, labels in batches]
        assert [(len(images), images.dtype.name) for images, _ in read] == [(3, "uint8")] * 5 + [(1, "uint8")]
        wanted = slice(None) if order is None else order
        np.testing.assert_array_equal(np.concatenate([images for images, _ in read]), split.clips[wanted])
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in read]), split.labels[wanted])


@pytest.mark.slow
def test_networks_learn_the_notebooks_clips_and_guess_with_shuffled_weights(params_with: Load) -> None:
    changes: dict[str, Any] = {"synthetic.variant": "notebook", "synthetic.clips_per_class": 8}
    for name in ("cnn_lstm", "convlstm"):  # small frames and two layers, which take less time
        changes |= {f"{name}.downsample": 4, f"{name}.filters": [5, 5], f"{name}.kernel_sizes": [3, 3]}
    params = params_with({**changes, "convlstm.batch_size": 4, "convlstm.learning_rate": 0.01})
    train, validation, test = (
        Split(np.concatenate(list(split.batches)), split.labels, tuple(split.class_names))
        for split in draw_dataset(drawing(params)).splits.values()
    )
    right = {}
    for name in ("cnn_lstm", "convlstm"):
        section, model = params.model(name), build_replicate(name, params.model(name), train, seed=0)
        assert isinstance(section, GradientParams)
        epochs = fit_epochs(model, name, ReplicateKey(0), section, params.training, DRAWN_DATASET, train, validation)
        next(epoch for epoch in epochs if epoch["validation_loss"] < params.training.target_loss)
        right[name] = (model.predict(test.clips, verbose=0).argmax(axis=1) == test.labels)[np.newaxis]
        assert right[name].all()
    random = np.random.default_rng(0)
    model.set_weights([random.permuted(weight.ravel()).reshape(weight.shape) for weight in model.get_weights()])
    right["convlstm"] = (model.predict(test.clips, verbose=0).argmax(axis=1) == test.labels)[np.newaxis]
    [pair] = compare_pairs(right, None, params.gate.margin)
    assert (pair.better_network, pair.better) == ("cnn_lstm", None), "one seed cannot tell of recipes"
