"""`make tune-apply`: write the values of a search's best trial into params.yaml, and note where they came from."""

import sys

from motionbench.core.commands import run_command
from motionbench.core.errors import UserError
from motionbench.core.files import atomic_outputs, read_json, write_json
from motionbench.core.paths import APPLIED_SEARCHES, PARAMS, TUNING_REPORTS
from motionbench.models.registry import SEARCHABLE
from motionbench.params.editing import update_yaml
from motionbench.params.loading import load_params


def main() -> None:
    """Change params.yaml and metrics/tuning/applied.json."""
    if len(sys.argv) != 2 or sys.argv[1] not in SEARCHABLE:
        given = " ".join(sys.argv[1:]) or "nothing"
        raise UserError(f"MODEL: {given} is not one of {', '.join(SEARCHABLE)}; as in make tune-apply MODEL=convlstm")
    model_name = sys.argv[1]
    from motionbench.tuning.outcome import read_outcome, suggested_change  # imported late: keeps error messages fast

    load_params(PARAMS)
    outcome = read_outcome(TUNING_REPORTS / model_name, model_name)
    text = PARAMS.read_text(encoding="utf-8")
    print("\n".join(suggested_change(text, model_name, outcome)) or "params.yaml has these values already")
    with atomic_outputs(PARAMS, APPLIED_SEARCHES) as (new_params, new_applied):
        new_params.write_text(update_yaml(text, {model_name: outcome["values"]}), encoding="utf-8")
        section = load_params(new_params).model(model_name).model_dump(mode="json")
        write_json(new_applied, {**read_json(APPLIED_SEARCHES), model_name: {**outcome, "section": section}})
    print("Train and compare with it: dvc repro")


if __name__ == "__main__":
    run_command(main)
