import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from motionbench.core.dvc_files import flatten
from motionbench.core.errors import UserError
from motionbench.core.files import read_yaml
from motionbench.params.loading import load_params, stage_params
from motionbench.params.schema import Params
from tests.conftest import ROOT

Load = Callable[[dict[str, Any]], Params]

MOTION, NOTEBOOK = {"synthetic.variant": "motion"}, {"synthetic.variant": "notebook"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"data.clips": 3}, "data.clips: 3: unknown key; known here: source, frames, height, width, colour"),
    ({"data.source": "video"}, "data.source: video is not allowed: must be one of synthetic, folder"),
    ({"data.source": 3}, "data.source: 3 is not allowed: input should be a valid string"),
    ({"data.colour": "rgb"}, "data.colour: rgb is not allowed: must be grey with data.source: synthetic"),
    ({"data.colour": "red"}, "data.colour: 'red' is not allowed: input should be 'grey' or 'rgb'"),
    ({"synthetic.variant": "notebok"}, "synthetic.variant: 'notebok' is not allowed: input should be 'corrected',"),
    ({"synthetic.clips_per_class": 0}, "synthetic.clips_per_class: 0 is not allowed: input should be greater than 0"),
    ({"synthetic.clips_per_class": 2.5}, "synthetic.clips_per_class: 2.5 is not allowed: input should be a valid int"),
    ({"synthetic.clips_per_class": True}, "synthetic.clips_per_class: True is not allowed"),
    ({"synthetic.clips_per_class": "20"}, "synthetic.clips_per_class: '20' is not allowed"),
    ({"synthetic.seed": -1}, "synthetic.seed: -1 is not allowed"),
    ({"synthetic.jitter": float("nan")}, "synthetic.jitter: nan is not allowed"),
    ({"tuning.study": "two words"}, "tuning.study: 'two words' is not allowed: string should match pattern '^[A-Za-z0"),
    ({"synthetic.jitter": -1.0}, "synthetic.jitter: -1.0 is not allowed"),
    ({"synthetic.point_size": 5}, "synthetic.point_size: 5 is not allowed: must be an even number of pixels"),
    ({"synthetic.point_size": 50}, "synthetic.point_size: 50 is not allowed: must be at most 48 in a frame of 50x130"),
    (NOTEBOOK | {"data.frames": 10}, "data.frames: 10 is not allowed: must be 20, the reference"),
    (MOTION | {"data.frames": 3}, "data.frames: 3 is not allowed: must be at least 4 with synthetic.va"),
    (MOTION | {"synthetic.point_size": 2}, "synthetic.point_size: 2 is not allowed: must be at least 4 and"),
    (MOTION | {"synthetic.point_size": 48}, "synthetic.point_size: 48 is not allowed: must be at least 4 and 3"),
    (NOTEBOOK | {"synthetic.jitter": 2.0}, "synthetic.jitter: 2.0 is not allowed: must be 1.0, the reference"),
    ({"folder.fold": 3}, "folder.fold: 3: unknown key; known here: path, manifest, group, folds"),
    ({"folder.resize": "zoom"}, "folder.resize: 'zoom' is not allowed: input should be 'pad', 'crop' or 'stretch'"),
    ({"backbone.path": "../own.keras"}, "backbone.path: '../own.keras' is not allowed: must be a path in the reposi"),
    ({"training.seeds": [1, 1]}, "training.seeds: [1, 1] is not allowed: must be seeds that differ"),
    ({"training.seeds": []}, "training.seeds: [] is not allowed"),
    ({"gate.margin": 0.0}, "gate.margin: 0.0 is not allowed: input should be greater than 0"),
    ({"gate.margin": 1.0}, "gate.margin: 1.0 is not allowed: input should be less than 1"),
    ({"training.patience": 0}, "training.patience: 0 is not allowed"),
    ({"training.target_loss": -1.0}, "training.target_loss: -1.0 is not allowed"),
    ({"training.class_weights": "equal"}, "training.class_weights: 'equal' is not allowed: input should be 'none' or"),
    ({"training.augmentation": None}, "training.augmentation: None is not allowed"),
    ({"training.augmentation.flop": 1}, "augmentation.flop: 1: unknown key; known here: flip, crop, brightness, time_"),
    ({"training.augmentation.flip": "sideways"}, "flip: 'sideways' is not allowed: input should be 'left_right' or"),
    ({"training.augmentation.crop": 1.0}, "augmentation.crop: 1.0 is not allowed: input should be less than 1"),
    ({"training.augmentation.brightness": 1.1}, "training.augmentation.brightness: 1.1 is not allowed"),
    ({"training.augmentation.time_jitter": -1}, "training.augmentation.time_jitter: -1 is not allowed"),
    ({"training.augmentation.time_jitter": 20}, "time_jitter: 20 is not allowed: must be below data.frames: 20"),
    ({"cnn_lstm.time_distributed": "frames"}, "'frames' is not allowed: input should be 'per_layer' or 'whole_cnn'"),
    ({"cnn_lstm.filters": [5, 5]}, "cnn_lstm.kernel_sizes: [4, 8, 8] is not allowed: must be as long as"),
    ({"cnn_lstm.filters": [5, -5, 5]}, "cnn_lstm.filters.1: -5 is not allowed"),
    ({"cnn_lstm.learning_rate": 0}, "cnn_lstm.learning_rate: 0 is not allowed"),
    ({"cnn_lstm.learning_rate_schedule": "linear"}, "'linear' is not allowed: input should be 'constant' or 'cosine'"),
    ({"cnn_lstm.batch_normalization": 1}, "cnn_lstm.batch_normalization: 1 is not allowed: input should be a valid bo"),
    ({"cnn_lstm.dropout": 1.0}, "cnn_lstm.dropout: 1.0 is not allowed: input should be less than 1"),
    ({"cnn_lstm.dropout": -0.1}, "cnn_lstm.dropout: -0.1 is not allowed"),
    ({"cnn_lstm.weight_decay": -0.1}, "cnn_lstm.weight_decay: -0.1 is not allowed"),
    ({"cnn_lstm.weight_decay": 1.1}, "cnn_lstm.weight_decay: 1.1 is not allowed"),
    (
        {"convlstm.enabled": False},
        "convlstm.enabled: False is not allowed: must be true for at least two of cnn_lstm, convlstm, cnn3d",
    ),
    ({"single_frame.enabled": False}, "single_frame.enabled: False is not allowed: must be true: every comparison"),
    ({"frame_differences.enabled": False}, "must be true: every comparison needs the baseline and the controls"),
    (
        {"cnn3d.enabled": True, "cnn3d.kernel_frames": 21},
        "kernel_frames: 21 is not allowed: must be at most 20: data.frames",
    ),
    ({"cnn3d.enabled": True, "cnn3d.kernel_sizes": [3, 3, 13]}, "cnn3d.kernel_sizes: [3, 3, 13] is not allowed"),
    ({"perturbations.dropped_frames": [0.5, 1.5]}, "perturbations.dropped_frames.1: 1.5 is not allowed"),
    ({"perturbations.first_frames": [0]}, "perturbations.first_frames.0: 0 is not allowed"),
    ({"perturbations.backwards": [1, 1]}, "perturbations.backwards: [1, 1] is not allowed"),
    ({"tuning.pruner_top_fraction": 0.0}, "tuning.pruner_top_fraction: 0.0 is not allowed: input should be greater"),
    ({"tuning.maximum_latency": 0.0}, "tuning.maximum_latency: 0.0 is not allowed"),
    ({"tuning.study": "../a"}, "tuning.study: '../a' is not allowed"),
    ({"tuning.convlstm.space.filters": {"lo": 2}}, "space.filters.lo: 2: unknown key; known here: choices, low, high"),
    ({"tuning.convlstm.space.filters": {"low": 2}}, "either choices, or low and high, are needed"),
    ({"tuning.convlstm.space.filters": {"low": 3, "high": 2}}, "low must not exceed high"),
    ({"tuning.convlstm.space.filters": {"low": 3, "high": 4.5}}, "low and high must both be whole numbers or both not"),
    ({"tuning.convlstm.space.filters": {"choices": [3, 3]}}, "choices must differ"),
    ({"tuning.convlstm.space": {}}, "tuning.convlstm.space: {} is not allowed"),
    ({"tuning.default.space": {}}, "tuning.default.space: {} is not allowed"),
    ({"tuning.single_frame": {}}, "tuning.single_frame: {}: unknown key; known here: study, maximum_latency"),
    ({"lstm": {}}, "lstm: {}: unknown key; known here: data, backbone, training, perturbations, gate"),
    (
        {"convlstm.kernel_sizes": [4, 8, 13]},
        "convlstm.kernel_sizes: [4, 8, 13] is not allowed: must be at most 12 at la",
    ),
    (
        {"convlstm.filters": [1] * 6, "convlstm.kernel_sizes": [1] * 6},
        ".filters: [1, 1, 1, 1, 1, 1] is not allowed: must be at most 5 layers",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[" ".join(changes) for changes, _ in REFUSED])
def test_bad_values_are_refused_in_one_line(changes: dict[str, Any], message: str, params_with: Load) -> None:
    with pytest.raises(UserError) as refused:
        params_with(changes)
    line = str(refused.value)
    assert message in line
    assert "params.yaml: " in line
    assert "\n" not in line


def remove_units(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if "lstm_units" not in line)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda _: "data: {", "line 1: not readable as YAML"),
        (lambda _: "data:\n\tseed: 1", "line 2: not readable as YAML"),
        (lambda _: "data: {seed: 1, seed: 2}", "line 1: not readable as YAML: found duplicate key"),
        (lambda _: "", "holds no sections; expected data, backbone, training"),
        (lambda _: "\0", "not readable as YAML"),
        (lambda _: "data: 3", "data: 3 is not allowed"),
        (remove_units, "cnn_lstm.lstm_units: missing"),
        # Named before the key that is missing for that.
        (
            lambda text: text.replace(" margin:", " marginn:"),
            "gate.marginn: 0.02: unknown key; known here: minimum_acc",
        ),
    ],
)
def test_unreadable_files_are_refused_in_one_line(edit: Callable[[str], str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(edit((ROOT / "params.yaml").read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load_params(path)
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the repository's root"):
        load_params(tmp_path / "params.yaml")


def test_every_key_of_params_yaml_has_a_comment() -> None:
    commented: set[str] = set()
    for line in (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines():
        if key := re.match(r" +\w+(?=: [^{])", line):  # Of a search space, the keys are those of the model's section.
            if key[0].startswith("    ") and key[0] in commented:
                continue  # Of a contender's search, they are those of the default one.
            assert " # " in line, line
            commented.add(key[0])


def test_stage_params_are_those_that_dvc_yaml_declares(params_with: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params = params_with({"data.frames": 21, "synthetic.seed": 7, "training.patience": 9})

    def sections(stage: str) -> set[str]:
        return {key.split(".")[0] for key in stage_params(params, stage)}

    assert stage_params(params, "generate").items() >= {("data.frames", 21), ("synthetic.seed", 7)}
    declared = stage_params(params, "train_controls")
    assert (declared["training.patience"], declared["single_frame.filters"]) == (9, (5, 5, 5))
    assert sections("generate") == {"data", "synthetic"}
    assert sections("train_controls") == {"training", "frame_differences", "single_frame", "bag_of_frames"}
    # The shape of the clips is that of the files which `generate` wrote.
    assert sections("evaluate") == {"training", "perturbations", "backbone"}
    assert sections("compare") == {"gate", "perturbations"}
    for stage in ("train_convlstm", "train_cnn3d"):
        prefixes = ("training.", f"{stage.removeprefix('train_')}.")
        in_the_file = {key for key in flatten(read_yaml(Path("params.yaml"))) if key.startswith(prefixes)}
        assert stage_params(params, stage).keys() == in_the_file, "and so in dvc.lock"


def test_a_backbone_outside_the_repository_is_refused_for_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine of the cluster would link it at the same place there, outside its folder for the task.
    content = read_yaml(ROOT / "params.yaml")
    content["backbone"]["path"] = str(tmp_path / "own.keras")
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    YAML().dump(content, path := tmp_path / "params.yaml")
    load_params(path)
    content["pretrained_lstm"]["enabled"] = content["pretrained_bag"]["enabled"] = True
    YAML().dump(content, path)
    with pytest.raises(UserError) as refused:
        load_params(path)
    assert str(refused.value) == (
        f"{path}: backbone.path: {tmp_path / 'own.keras'}: machines of a cluster get files of the repository alone; "
        "copy it to data/backbone, or unset RAY_ADDRESS"
    )
    monkeypatch.delenv("RAY_ADDRESS")
    load_params(path)
