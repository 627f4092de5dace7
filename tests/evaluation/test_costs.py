import json
import math
from pathlib import Path

import pytest

from motionbench.core.errors import UserError
from motionbench.core.files import read_json
from motionbench.core.paths import EVALUATION_TIMING
from motionbench.evaluation.costs import Cost, read_costs, write_costs

COST = Cost(1_000, 2.0, (1.5, 2.5), 100.0, (90.0, 110.0), "ONNX Runtime", 1.0)


@pytest.fixture(autouse=True)
def _folder(working_directory: Path) -> None:
    (working_directory / EVALUATION_TIMING).parent.mkdir()


def test_costs_are_read_as_they_were_measured_with_where() -> None:
    write_costs(EVALUATION_TIMING, {"cnn_lstm": COST, "convlstm": COST._replace(flops=2)})
    assert read_costs(["convlstm"])["convlstm"].flops == 2
    assert list(read_costs(["cnn_lstm"])["cnn_lstm"].latency_quartiles) == [1.5, 2.5]
    content = read_json(EVALUATION_TIMING)
    assert content["cnn_lstm"]["latency_milliseconds"] == 2.0
    assert any(each.startswith("Python 3.") for each in content["environment"])


DAMAGED = [json.dumps({"cnn_lstm": {**COST._asdict(), "latency_milliseconds": each}}) for each in (None, math.nan, "x")]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"cnn_lstm": {}}', '{"cnn_lstm": 1}', *DAMAGED])
def test_a_damaged_file_is_refused_in_one_line(content: str | None) -> None:
    if content is not None:
        EVALUATION_TIMING.write_text(content, encoding="utf-8")
    with pytest.raises(
        UserError, match=r"^metrics/evaluation_timing\.json: not readable .* --single-item --force evaluate$"
    ):
        read_costs(["cnn_lstm"])
