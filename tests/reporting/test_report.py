import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import atomic_outputs
from motionbench.data.splits import Split
from motionbench.evaluation.comparison import accuracies_under_conditions, describe_model
from motionbench.evaluation.results import ModelResult, Search
from motionbench.evaluation.verdict import check_controls, choose_champion, search_notes, verdict
from motionbench.params.loading import load_params
from motionbench.params.schema import GateParams
from motionbench.reporting.pictures import disagreements, draw_pictures
from motionbench.reporting.report import write_reports
from motionbench.reporting.report import condition_rows
from motionbench.training.results import Training, read_training
from tests.conftest import ROOT

HOSTILE = "<b>![x](http://127.0.0.1/y)|`"


def result(*correct: int, clips: int = 80, latency: float = 1.0) -> ModelResult:
    """A model whose replicates have the first so many clips right, as they are and under a condition."""
    scores: Any = [
        {
            "correct": number,
            "clips": clips,
            "accuracy": number / clips,
            "classes": {HOSTILE: SCORES, "$x_{": SCORES},
            "confusion": [[number, clips - number], [0, 0]],
            "predicted": [0] * number + [1] * (clips - number),
            "conditions": [
                {
                    "condition": "speed",
                    "level": 2.0,
                    "predicted": [0] * number + [1] * (clips - number),
                    "right": [True] * number + [False] * (clips - number),
                }
            ],
        }
        for number in correct
    ]
    history = pd.DataFrame({"seed": [0], "epoch": [1], "validation_loss": [0.1], "validation_accuracy": [1.0]})
    training = Training(13_039, [1] * len(correct), history, 0, 1.0, 500.0)
    cost: Any = {"flops": 1_000_000, "latency_milliseconds": [0.9, latency, 1.1], "clips_per_second": [1.9, 2.0, 2.1]}
    return describe_model(training, scores, cost)


def models(ours: ModelResult, theirs: ModelResult, controls: tuple[int, int] = (80, 80)) -> dict[str, ModelResult]:
    blind, unordered = (result(*[control] * 2) for control in controls)
    return {"cnn_lstm": ours, "convlstm": theirs, "single_frame": blind, "bag_of_frames": unordered}


SPLIT = Split(np.zeros((80, 3, 4, 4, 1), dtype=np.uint8), np.zeros(80, dtype=np.int64), (HOSTILE, "$x_{"))
CONDITIONS = load_params(ROOT / "params.yaml").conditions.model_copy(update={"clips_per_class": 80})
SCORES = {"precision": 1.0, "recall": 1.0, "f1": 1.0}


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (result(80, 80), result(80, 80), "No difference shown: every replicate of both models"),
        (result(80, 79), result(80, 80), "No difference shown: accuracy cnn_lstm less convlstm -0.006"),
        (result(80, 80), result(40, 44), "cnn_lstm is better than convlstm: accuracy cnn_lstm less convlstm +0.475"),
        (result(40, 44), result(80, 80), "convlstm is better than cnn_lstm: accuracy cnn_lstm less convlstm -0.475"),
        (result(80, 40), result(20, 70), "No difference shown: accuracy cnn_lstm less convlstm +0.188"),
    ],
)
def test_the_verdict_claims_a_difference_only_where_it_is_shown(
    ours: ModelResult, theirs: ModelResult, said: str
) -> None:
    assert verdict(models(ours, theirs), SPLIT.labels).startswith(said)


def test_controls_that_do_as_well_are_said_to_take_the_evidence_away() -> None:
    perfect = result(80, 80)
    blind = check_controls(models(perfect, perfect), SPLIT.labels)
    assert "none better than single_frame and bag_of_frames is shown" in blind
    assert "no accuracy is evidence that a model sees motion" in blind
    assert "none better than bag_of_frames is shown" in check_controls(models(perfect, perfect, (20, 79)), SPLIT.labels)
    seen = check_controls(models(perfect, result(30, 30), (20, 60)), SPLIT.labels)
    assert "single_frame 0.250, bag_of_frames 0.750: what cnn_lstm reaches beyond that, 1.000, rests on motion" in seen


def test_the_champion_is_the_better_model_else_the_faster_one_if_it_passes_the_gate() -> None:
    gate = GateParams(minimum_accuracy=0.9, maximum_latency=100.0)
    fast, slow = result(80, 80, latency=5.0), result(80, 80, latency=50.0)

    def chosen(ours: ModelResult, theirs: ModelResult, **changes: float) -> tuple[str | None, str]:
        return choose_champion(models(ours, theirs), SPLIT.labels, gate.model_copy(update=changes))

    assert chosen(slow, fast)[0] == "convlstm"
    assert chosen(slow, result(50, 50, latency=5.0))[0] == "cnn_lstm"
    assert chosen(slow, fast, minimum_accuracy=0.96) == (
        None,
        "No model becomes champion: the accuracy of convlstm, the faster model where no difference is shown, may be as "
        "low as 0.955, below gate.minimum_accuracy: 0.96.",
    )
    name, why = chosen(slow, fast, maximum_latency=4.0)
    assert name is None
    assert "the latency of convlstm, the faster model where no difference is shown, is 5.0 ms, above gate.max" in why


def test_the_effort_of_tuning_is_told() -> None:
    search = Search(study="s", trials=40, number=7, validation_loss=0.1, promised=0.1, retrained=0.2)
    tuned = ModelResult({**result(80), "search": search})
    assert search_notes(models(result(80), result(80)))[0].startswith("Both models had the same effort of tuning")
    assert search_notes(models(tuned, tuned))[0].startswith("The models had the same effort of tuning")
    unequal, gap = search_notes(models(tuned, result(80)))
    assert unequal == "The models had not the same effort of tuning: cnn_lstm 40 trials and convlstm 0 trials."
    assert "an optimism gap of +0.1000 nats" in gap


def test_clips_on_which_the_models_disagree_are_shown_with_both_answers() -> None:
    clips = disagreements(models(result(80, 80, 70), result(70, 70, 80)), SPLIT, CONDITIONS)
    assert [text for text, _ in clips] == [
        f"test clip {number}, as it is\nis {HOSTILE}\ncnn_lstm: {HOSTILE}\nconvlstm: $x_{{" for number in range(70, 76)
    ]
    [*_, (text, _)] = disagreements(models(result(80), result(78)), SPLIT, CONDITIONS)
    assert text.startswith("test clip 78, speed 2\n")
    # The clips under conditions are fewer, and here not the first ones.
    second_half = SPLIT._replace(labels=np.repeat([0, 1], 40))
    few = models(result(12, clips=20), result(11, clips=20))
    for model in few.values():
        model["replicates"][0]["predicted"] = [0] * 80
    [(text, _)] = disagreements(few, second_half, CONDITIONS.model_copy(update={"clips_per_class": 10}))
    assert text.startswith("test clip 41, speed 2\n")
    assert disagreements(models(result(80), result(80)), SPLIT, CONDITIONS) == []


def test_class_names_cannot_inject_html_or_break_a_figure(tmp_path: Path) -> None:
    compared = models(result(80), result(70))
    search = Search(study=HOSTILE, trials=1, number=0, validation_loss=0.1, promised=0.1, retrained=0.1)
    compared["convlstm"]["search"] = search
    split = SPLIT._replace(labels=np.repeat([0, 1], 40))
    histories = {name: model["training"].history for name, model in compared.items()}
    pictures = draw_pictures(tmp_path, compared, histories, split, CONDITIONS)
    origin = {"run_id": "1234567890", "url": "https://mlflow/#/runs/1234567890", "commit": "abcdefghij"}
    write_reports(tmp_path, compared, SPLIT.class_names, search_notes(compared), pictures, origin)
    page, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    for written in (page, text):
        assert "&lt;b&gt;" in written
        assert "<b>" not in written
    assert not re.search(r"[^\\]\]\(http:", text), "a picture from elsewhere"
    assert page.count(f'<a href="{origin["url"]}">MLflow run 12345678</a>, commit\nabcdefgh.') == len(pictures) == 6


def test_damaged_results_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train again: dvc repro --force train_convlstm"):
        read_training("convlstm", tmp_path, tmp_path / "timing.json")


def test_outputs_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder, file = tmp_path / "models", tmp_path / "timing" / "model.json"
    for content in ("old", "new"):
        with atomic_outputs(folder, file) as (new_folder, new_file):
            (new_folder / content).touch()
            new_file.write_text(content, encoding="utf-8")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert file.read_text(encoding="utf-8") == "new"

    def write_half() -> None:
        with atomic_outputs(folder, file) as (new_folder, _):
            (new_folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "timing"]
    assert [path.name for path in file.parent.iterdir()] == ["model.json"]


def test_conditions_are_compared_clip_by_clip_and_adjusted_for_their_number() -> None:
    rows = condition_rows(models(result(80, 80), result(40, 44), (20, 60)))
    assert [row[:6] for row in rows] == [["speed", "2", "1.000", "0.525", "0.250", "0.750"]]
    assert rows[0][6].startswith("+0.475 (+0.3")
    assert float(rows[0][7]) < 1e-9


def test_curves_hold_every_replicate_at_every_level_and_at_the_one_of_no_change() -> None:
    rows = accuracies_under_conditions({"cnn_lstm": result(80, 60)}, frames=20)
    assert rows.to_dict("list") == {
        "model": ["cnn_lstm"] * 4,
        "replicate": [1, 1, 2, 2],
        "condition": ["speed"] * 4,
        "level": [1.0, 2.0, 1.0, 2.0],
        "accuracy": [1.0, 1.0, 0.75, 0.75],
    }
