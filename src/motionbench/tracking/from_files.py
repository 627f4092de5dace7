"""The record of a stage's run, built from the stage's files."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from motionbench.core import paths
from motionbench.core.dvc_files import StageLock, flatten, is_result, is_wall_clock, read_stages, run_again
from motionbench.core.errors import UserError
from motionbench.core.files import file_md5, file_md5s, path_md5, read_json
from motionbench.core.inputs import check_recorded
from motionbench.core.paths import ReplicateKey
from motionbench.data.folds import held_out_folder
from motionbench.data.splits import part_folders, read_dataset_info, read_split
from motionbench.models.registry import BackboneParams, reads_features
from motionbench.tracking.description import describe_run, replicate_tags, restored_tags
from motionbench.tracking.record import (
    REGISTERED,
    DatasetRecord,
    ModelRecord,
    Record,
    RunRecord,
    ScoreRecord,
    logged_name,
)
from motionbench.training.results import read_training, replicate_key

ENDS = {"": "accuracy", "_low": "low", "_high": "high"}
"""Of the names of metrics, with the columns of replicates.csv that they have."""


def as_text(params: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as MLflow stores them, the same from params.yaml and from dvc.lock."""
    return {key: str(tuple(value) if isinstance(value, list) else value) for key, value in params.items()}


def build_record(stage: str, params: Mapping[str, Any]) -> Record:
    """Return the record of a stage whose outputs are here and were made with `params`.

    Raises:
        UserError: if a file is missing or damaged.
    """
    declared = read_stages()[stage]
    deps, outs, trained = declared.deps, declared.outs, declared.model_names()
    try:
        md5s = {out: path_md5(Path(out)) for out in outs}
        files = {file: md5 for out in outs for file, md5 in file_md5s(Path(out)).items()}
        clips = [Path(path) for path in (*deps, *outs) if Path(path) in paths.CLIPS]
        parts = [part for folder in clips for part in part_folders(folder)]
        datasets = [
            DatasetRecord(
                name=part.relative_to(paths.DATA).as_posix(),
                md5=md5s.get(part.as_posix()) or path_md5(part),
                shape=read_split(part).clips.shape,
            )
            for part in parts
        ]
        source = read_dataset_info()
        model: dict[str, Any] = {
            "clip_shape": datasets[0].shape[1:],
            "class_names": read_split(parts[0]).class_names,
            **source.model_dump(include={"resize", "seconds"}),
        }
        timings = [Path(file) for file in files if file.endswith(".json") and is_wall_clock(file)]
        summaries = [*(Path(file) for file in files if file.endswith("/summary.json")), *timings]
        environment = {"environment": ", ".join(read_json(timings[0])["environment"])} if timings else {}
        compared = str(paths.COMPARISON_TIMING) in outs
        found = _comparison(params, model, source.source) if compared else {}
        description = describe_run(declared, found.pop("sentences", []))
        return Record(
            name=stage,
            params=as_text(params),
            content=content_md5(stage, params, {**md5s, **{dataset.name: dataset.md5 for dataset in datasets}}),
            tags={
                **{f"data.md5.{dataset.name}": dataset.md5 for dataset in datasets},
                **{f"md5.{out}": md5 for out, md5 in md5s.items()},
                **_file_tags(files.keys() - md5s.keys(), files),
                **environment,
                "mlflow.note.content": description,
            },
            metrics={
                f"{file.stem if file in timings else file.parent.name}.{key}" if len(trained) > 1 else key: value
                for file in summaries
                for key, value in flatten(read_json(file)).items()
                if isinstance(value, int | float) and not key.startswith("section.")  # which repeats the parameters
            },
            datasets=datasets,
            artifacts=[Path(out) for out in outs if out.startswith(("metrics/", "reports/", str(paths.PREDICTIONS)))],
            replicates=[
                each for name in trained for each in _replicates(stage, name, params, files, model, source.source)
            ],
            **found,
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{stage}: an output is not readable ({error}); run the stage again: {run_again(stage)}"
        ) from error


def restored_record(entry: StageLock, commit: str | None) -> Record:
    """Return the record of the run whose outputs are here, as dvc.lock and the commit that added it describe it.

    Raises:
        UserError: if an output, or a split that the stage read, is missing or not the one in dvc.lock, or if dvc.lock
            records what the stage did not use.
    """
    check_recorded([entry])
    for path, md5 in {**entry.outs, **entry.data()}.items():
        if not Path(path).exists():
            raise UserError(f"{path} is missing; get it: dvc pull, or dvc repro")
        if path_md5(Path(path)) != md5:
            raise UserError(f"{path} differs from dvc.lock; make them agree: dvc repro, or dvc checkout --force {path}")
    record = build_record(entry.stage, entry.params)
    tags = {**record.tags, **restored_tags(entry.stage, commit or "unknown")}
    return record.model_copy(update={"tags": tags})


def content_md5(stage: str, params: Mapping[str, Any], md5s: Mapping[str, str]) -> str:
    """Return the md5 of a stage, its parameters, and the clips and results among these md5s by path."""
    # Writing params.yaml may turn a whole number into a float.
    numbers = {key: float(value) if type(value) is int else value for key, value in params.items()}
    content = [stage, numbers, {out: md5 for out, md5 in md5s.items() if is_result(out)}]
    return hashlib.md5(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def _file_tags(files: Iterable[str], md5s: Mapping[str, str]) -> dict[str, str]:
    """Return a tag for each file in an output, or for several of one content: its paths, under its md5.

    Paths cannot be keys: they may hold names of classes, and MLflow restricts the characters and the length of keys.
    """
    tags: dict[str, str] = {}
    for path in sorted(files):
        key = f"file.{md5s[path]}"
        tags[key] = f"{tags[key]}\n{path}" if key in tags else path
    return tags


def clip_md5s(md5s: Mapping[str, str]) -> dict[str, str]:
    """Return those of the folders of clips among these md5s of files and folders, as tags."""
    return {f"data.md5.{Path(path).name}": md5 for path, md5 in md5s.items() if Path(path) in paths.CLIPS}


def replicate_name(model_name: str, key: ReplicateKey) -> str:
    """Return the name of a replicate's run."""
    return f"train_{model_name} {key}"


def replicate_record(stage: str, model_name: str, key: ReplicateKey, params: Mapping[str, Any]) -> RunRecord:
    """Return the record of a replicate that a stage with these parameters trains."""
    identity = {name: str(value) for name, value in key._asdict().items() if value is not None}
    return RunRecord(
        name=replicate_name(model_name, key),
        params={**as_text(params), "model": model_name, **identity},
        tags=replicate_tags(model_name, key, stage),
    )


def _replicates(
    stage: str, name: str, params: Mapping[str, Any], md5s: Mapping[str, str], model: Mapping[str, Any], source: str
) -> Iterator[RunRecord]:
    training = read_training(name)
    if training is None:
        return  # The model was switched off.
    curves = training.curves()
    for row, seconds in zip(training.replicates.to_dict("records"), training.replicate_seconds, strict=True):
        key = replicate_key(row)
        path = paths.replicate_path(paths.MODELS / name, key)
        md5, facts, best = md5s[path.as_posix()], {"model": name, "source": source}, key == training.best_replicate
        described = f"{name}, {key}: the replicate with the lowest validation loss."
        record = replicate_record(stage, name, key, params)
        update = {
            "tags": {**record.tags, f"md5.{path}": md5},
            "metrics": {**{f"best_{measure}": row[measure] for measure in curves[key]}, "training_seconds": seconds},
            "curves": curves[key].to_dict("records"),
            "model": ModelRecord(
                name=name, path=path, md5=md5, best=best, description=described, facts=facts, **model, **_backbone(name)
            ),
        }
        yield record.model_copy(update=update)


def _comparison(params: Mapping[str, Any], model: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what a comparison found, as sentences and scores, and the champion and the challenger that it chose."""
    timing = read_json(paths.COMPARISON_TIMING)
    verdict = (paths.COMPARISON_METRICS / "verdict.txt").read_text(encoding="utf-8").splitlines()
    used = read_json(paths.stage_inputs_path("compare"))["md5s"]
    clips = clip_md5s({folder: md5 for folder, md5 in used.items() if part_folders(Path(folder))})

    def chosen(archive: str | None, description: str, passed: bool) -> ModelRecord | None:
        if archive is None:
            return None
        path, gate = Path(archive), {key: str(value) for key, value in params.items() if key.startswith("gate.")}
        facts = {"model": path.parent.name, "source": source, **clips, **gate, "gate.passed": str(passed).lower()}
        return ModelRecord(
            name=REGISTERED, path=path, md5=path_md5(path), best=True, description=description, facts=facts, **model,
            **_backbone(path.parent.name), **_onnx(path),
        )  # fmt: skip # what belongs together on one line

    challenger, fault = timing.get("challenger"), timing.get("challenger_fault")
    gate = f"It fails the gate: {fault}" if fault else "It passes the gate"
    what = f"Challenger: {Path(challenger or '').parent.name}, the best contender beside the champion. {gate}."
    return {
        "sentences": [*verdict, timing["reason"]],
        "model": chosen(timing["champion"], timing["reason"], passed=True),
        "challenger": chosen(challenger, what, passed=not fault),
        "scores": _scores(timing.get("latency_milliseconds", {})),
    }


def _scores(latencies: Mapping[str, float]) -> list[ScoreRecord]:
    """Return what replicates.csv says; an earlier version of this project wrote none."""
    import pandas as pd  # imported late: keeps error messages fast

    file, scores = paths.COMPARISON_METRICS / "replicates.csv", []
    for row in pd.read_csv(file).to_dict("records") if file.exists() else []:
        key, name = replicate_key(row), row["model"]
        metrics = {f"test_accuracy{end}": row[column] for end, column in ENDS.items()}
        scores.append(
            ScoreRecord(
                name=logged_name(name, paths.replicate_path(paths.MODELS, key)), md5=row["md5"],
                dataset=held_out_folder(key.fold).relative_to(paths.DATA).as_posix(),
                metrics={**metrics, "latency_milliseconds": latencies[name]},
            )
        )  # fmt: skip # what belongs together on one line
    return scores


def _backbone(model_name: str) -> dict[str, Any]:
    """Return which backbone made the features that a model reads."""
    if not reads_features(model_name):
        return {}
    used = read_json(paths.stage_inputs_path("embed"))
    backbone = BackboneParams(**{key: used["params"][f"backbone.{key}"] for key in BackboneParams.model_fields})
    if path_md5(Path(backbone.path)) != used["md5s"][backbone.path]:
        raise UserError(f"{backbone.path}: not the backbone that made the features; put that one back, or: dvc repro")
    return {"backbone": (path := backbone.archive()), "backbone_md5": file_md5(path), "side": backbone.side}


def _onnx(archive: Path) -> dict[str, Any]:
    """Return the ONNX file of a model, if there is one of this archive."""
    from motionbench.models.onnx_runtime import read_onnx  # late: takes a while

    path = paths.onnx_path(paths.ONNX, archive)
    return {"onnx": path, "onnx_md5": file_md5(path)} if read_onnx(archive) else {}
