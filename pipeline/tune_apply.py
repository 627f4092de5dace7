"""`make tune-apply`: write the values of a search's best trial into params.yaml, and note where they came from."""

import sys
from pathlib import Path

from motionbench.errors import UserError, run_command
from motionbench.files import read_json, replaced_whole, write_json
from motionbench.params import MODEL_NAMES, load_params, with_values
from motionbench.results import APPLIED

PARAMS = Path("params.yaml")


def main() -> None:
    """Change params.yaml and metrics/tuning/applied.json."""
    # Late: a bad argument is to be answered in a blink.
    if len(sys.argv) != 2 or sys.argv[1] not in MODEL_NAMES:
        received = " ".join(sys.argv[1:]) or "nothing"
        raise UserError(
            f"MODEL: {received} is not one of {', '.join(MODEL_NAMES)}; as in make tune-apply MODEL=convlstm"
        )
    model_name = sys.argv[1]
    from motionbench.tuning.outcome import read_outcome, suggested_change

    load_params(PARAMS)
    outcome = read_outcome(Path("reports/tuning", model_name), model_name)
    text = PARAMS.read_text(encoding="utf-8")
    print("\n".join(suggested_change(text, model_name, outcome)) or "params.yaml has these values already")
    with replaced_whole(PARAMS, APPLIED) as (new_params, new_applied):
        new_params.write_text(with_values(text, model_name, outcome["values"]), encoding="utf-8")
        section = load_params(new_params).model(model_name).model_dump(mode="json")
        write_json(new_applied, {**read_json(APPLIED), model_name: {**outcome, "section": section}})
    print("Train and compare with it: dvc repro")


if __name__ == "__main__":
    run_command(main)
