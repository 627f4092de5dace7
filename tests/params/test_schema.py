from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from motionbench.core.errors import UserError
from motionbench.core.files import read_yaml
from motionbench.data.folder.params import FolderParams
from motionbench.data.perturbations import PERTURBATIONS
from motionbench.data.synthetic.params import SyntheticParams
from motionbench.models.registry import MODEL_NAMES, SEARCHABLE
from motionbench.params.loading import check_params, load_params
from motionbench.params.schema import (
    DATASETS,
    Domain,
    Params,
    ParamsSchema,
    PerturbationsSchema,
    SearchParams,
    TuningSchema,
)
from tests.conftest import DRAWN_DATASET, ROOT, run

Load = Callable[[dict[str, Any]], Params]


def test_params_cannot_change_later() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        params.data.frames = 1  # type: ignore[misc] # the point of the test


def without(section: str, **data: Any) -> Params:
    """Check the repository's params.yaml without a section, with changes in the section data."""
    content = read_yaml(ROOT / "params.yaml")
    del content[section]
    content["data"] |= data
    return check_params(content, Path("params.yaml"))


def test_the_section_of_the_source_of_the_clips_is_needed_and_no_other() -> None:
    assert isinstance(without("folder").dataset(), SyntheticParams)
    assert isinstance(without("synthetic", source="folder").dataset(), FolderParams)
    for source in DATASETS:
        with pytest.raises(UserError, match=rf"^params\.yaml: {source}: missing; add it$"):
            without(source, source=source)


def test_the_section_of_an_unused_source_is_checked_too(params_with: Load) -> None:
    unused = {"synthetic": "folder", "folder": "synthetic"}
    for source in DATASETS:
        with pytest.raises(UserError, match=rf"{unused[source]}\.wrong: 1: unknown key"):
            params_with({"data.source": source, f"{unused[source]}.wrong": 1})
        with pytest.raises(UserError, match=rf"{unused[source]}\.seed: -1 is not allowed"):
            params_with({"data.source": source, f"{unused[source]}.seed": -1})


def test_clips_at_an_absolute_path_are_not_copied(params_with: Load, tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "-q")
    for folder in (clips := tmp_path / "data/clips", other := tmp_path.parent / "other clips"):
        folder.mkdir(parents=True)
        (folder / "a.mp4").touch()
    with chdir(tmp_path):
        paths = [
            params_with({"data.source": "folder", "folder.path": path}).untracked_files()
            for path in ("data/clips", str(other), str(clips))
        ]
    assert paths == [[Path("data/clips")], [], []]


def test_video_files_may_have_colours(params_with: Load) -> None:
    assert params_with({}).data.clip_shape() == (20, 50, 130, 1)
    assert params_with({"data.source": "folder", "data.colour": "rgb"}).data.clip_shape() == (20, 50, 130, 3)


def test_every_source_model_and_perturbation_has_its_key() -> None:
    assert set(ParamsSchema.model_fields) - set(Params.model_fields) == {*DATASETS, *MODEL_NAMES}
    assert set(PerturbationsSchema.model_fields) == {"seed", "clips_per_class", *PERTURBATIONS}
    assert set(SEARCHABLE) < set(TuningSchema.model_fields)


@pytest.mark.parametrize("name", SEARCHABLE)
def test_tuning_default_is_for_contenders_without_a_section(name: str) -> None:
    content = read_yaml(ROOT / "params.yaml")["tuning"]
    own = content.pop(name)
    without_own = TuningSchema.model_validate(content)
    assert without_own.section(name) == "default"
    assert without_own.model(name) == without_own.default == SearchParams.model_validate(content["default"])
    with_its_own = TuningSchema.model_validate({**content, name: own})
    assert with_its_own.section(name) == name
    assert with_its_own.model(name) == SearchParams.model_validate(own)


def test_models_that_are_off_need_not_fit_the_frames(params_with: Load) -> None:
    params = params_with({"cnn3d.kernel_frames": 21, "cnn3d.kernel_sizes": [51, 3, 3]})
    assert params.enabled_models() == ["cnn_lstm", "convlstm", "frame_differences", "single_frame", "bag_of_frames"]
    params = params_with({"cnn_lstm.enabled": False, "cnn3d.enabled": True})
    assert params.enabled_models() == ["convlstm", "cnn3d", "frame_differences", "single_frame", "bag_of_frames"]


def test_what_changes_labels_is_left_out_where_it_is_not_known_how(params_with: Load) -> None:
    perturbations = params_with({}).perturbations
    assert {name for name, _ in perturbations.settings(DRAWN_DATASET)} == set(PERTURBATIONS)

    def left_out(**label_maps: dict[str, str]) -> set[str]:
        source = DRAWN_DATASET.model_copy(update={"source": "folder", "label_maps": label_maps})
        return set(PERTURBATIONS) - {name for name, _ in perturbations.settings(source)}

    assert left_out() == left_out(mirrored={}) == {"backwards", "upside_down"}
    assert left_out(reversed={"a": "b", "b": "a"}) == {"upside_down"}
    assert left_out(flipped={}) == {"backwards"}


def test_settings_are_in_the_order_of_the_registry(params_with: Load) -> None:
    names = [name for name, _ in params_with({}).perturbations.settings(DRAWN_DATASET)]
    assert list(dict.fromkeys(names)) == list(PERTURBATIONS)
    two = params_with({"perturbations.speed": [3.0, 0.5]}).perturbations.settings(DRAWN_DATASET)
    assert two.index(("speed", 0.5)) == two.index(("speed", 3.0)) + 1
    twice = params_with({"perturbations.speed": [2.0, 2.0]}).perturbations.settings(DRAWN_DATASET)
    assert twice.count(("speed", 2.0)) == 1


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        ({"low": 2, "high": 8}, [2, 5, 8], [1, 9, 5.0]),
        ({"low": 0.1, "high": 1.0, "log": True}, [0.1, 0.5, 1.0], [0.05, 1.1, 1]),
        ({"choices": ["tanh", "relu"]}, ["tanh"], ["sigmoid", 1]),
        ({"choices": [False, True]}, [True, False], ["true", 2]),
    ],
)
def test_a_domain_contains_the_values_of_its_range(
    domain: dict[str, Any], inside: list[Any], outside: list[Any]
) -> None:
    found = Domain.model_validate(domain)
    assert all(value in found for value in inside)
    assert not any(value in found for value in outside)
