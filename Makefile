# Every target works on a fresh clone: .venv is made on first use. Needs make, git and Python 3.11 to 3.13.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Settings for other work, as notebooks, modules of a cluster and images have them, are kept from programs that read them
# before any code of ours does; core/commands.py has the others. DVC runs stages in the user's shell, which may be none,
# and needs names of a user and of a home folder. Names of files are UTF-8, whatever the language of the shell.
unexport $(filter PYTHON%,$(.VARIABLES)) PIP_CONSTRAINT PIP_NO_DEPS PIP_PREFIX PIP_ROOT PIP_TARGET
export PIP_USER := 0
export PYTHONUTF8 := 1
export SHELL
export LOGNAME ?= $(or $(USER),$(firstword $(shell id -un 2>/dev/null || id -u)))
export HOME ?= $(CURDIR)/.venv

# Only what make is told counts: shells and images export such names for other work. It reaches the shell as an environment
# variable: quotes and dollars in it would be the shell's, or make's.
NAMED := ADDRESS CLIP EXPLAIN FILE FOLDER FORMAT HOST KILLS LEAK MODEL NAME PORT TRIALS VERSION WORKERS
$(foreach name,$(NAMED),$(eval override $(name) := $(if $(filter command,$(origin $(name))),$$(value $(name)))))
export $(NAMED)

.PHONY: help repro verify lineage judge experiment leaderboard test test-all chaos bench tune tune-apply tune-ui predict \
  export promote backbone inspect example-clips cluster-head cluster-join cluster-leave lint ui \
  mlflow-sync notebook docs lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: .venv/installed ## make the clips, train all models, compare them (dvc repro)
	dvc repro

verify: .venv/installed ## run every stage of the last commit from nothing, and compare the outputs with its dvc.lock
	python -m pipeline.verify

lineage: .venv/installed ## show what made a file, an md5 or a run: make lineage FILE=models/convlstm/seed-0.keras
	@python -m pipeline.lineage "$$FILE"

judge: .venv/installed ## say what a change does, compared with another working tree: make judge FOLDER=../main
	@python -m pipeline.judge "$$FOLDER"

test: .venv/installed ## run the fast tests
	pytest -n 2 --dist loadfile

test-all: .venv/installed ## run all tests, those that train for real too
	pytest -n 2 --dist loadfile -m "slow or not slow"

chaos: .venv/installed ## kill each stage at 20 random moments: make chaos [KILLS=20] (half an hour)
	CHAOS_KILLS=$(or $(KILLS),20) pytest -s -m slow tests/integration/test_chaos.py

inspect: .venv/installed ## look at your clips, and write an experiment for them: make inspect FOLDER=clips [NAME=mine]
	@python -m pipeline.inspect "$$FOLDER" "$$NAME"

experiment: .venv/installed ## run all stages with the values of experiments/NAME.yaml: make experiment NAME=motion
	python -m pipeline.experiment "$$NAME"

# As Markdown, which is not cut to the terminal's width. Columns: what differs between the experiments.
leaderboard: .venv/installed ## show all experiments, the most accurate first: dvc exp show with options
	dvc exp show --md --hide-failed --precision 4 --sort-by best.accuracy --sort-order desc --only-changed --keep 'best.*' \
	  --drop '.*[/:].*|models|champion|challenger.*|latency_.*|reason|.*\.(low|high|f1|balanced.*|.*loss|brier.*|cali.*|p_value|prob.*|findable|flops|latency_.*|clips_.*|throughput.*)|(single|bag).*accuracy'

bench: .venv/installed ## time training, inference and a whole run: benchmarks/results, benchmarks/WHOLE_RUN.md (an hour)
	python -m benchmarks.compare_layers
	python -m benchmarks.inference
	python -m benchmarks.whole_run

tune: .venv/installed ## search for better parameters: make tune [MODEL=convlstm] [TRIALS=40] [WORKERS=4]
	dvc repro generate > /dev/null
	python -m pipeline.tune $(if $(MODEL),--model "$$MODEL") $(if $(TRIALS),--trials "$$TRIALS") $(if $(WORKERS),--workers "$$WORKERS")

tune-apply: .venv/installed ## write the best trial's values into params.yaml: make tune-apply MODEL=convlstm
	python -m pipeline.tune_apply "$$MODEL"

predict: .venv/installed ## classify a clip, or all of a folder, with the champion: make predict CLIP=reports/samples/sine.gif [EXPLAIN=1]
	python -m pipeline.predict "$$CLIP" $(if $(filter-out 0,$(EXPLAIN)),explain)

export: .venv/installed ## write a model as ONNX, with a card and an example, to reports/export/: make export [MODEL=cnn_lstm] [FORMAT=onnx]
	@case "$$FORMAT" in ""|onnx) ;; *) echo "make: FORMAT: $$FORMAT: there is onnx alone"; exit 1;; esac
	@python -m pipeline.export "$$MODEL"

promote: .venv/installed ## put another champion in use: make promote VERSION=3; without VERSION: list them
	@python -m pipeline.promote "$$VERSION"

backbone: $(if $(NAME),.venv/installed,.venv/backbone) ## write a pretrained backbone: make backbone [NAME=MobileNetV3Small] (docs/pretrained.md)
	@python -m pipeline.backbone "$$NAME"

example-clips: .venv/installed ## draw a folder of example videos: make example-clips [FOLDER=data/clips] [LEAK=1]
	python -m pipeline.example_clips "$${FOLDER:-data/clips}" $(if $(filter-out 0,$(LEAK)),leak)

tune-ui: .venv/installed ## show the studies at http://127.0.0.1:8080 (optuna-dashboard): make tune-ui [PORT=8081]
	@[ -n "$$OPTUNA_STORAGE" ] || [ -e optuna.journal ] || \
	  { echo "make: optuna.journal is missing; search first: make tune"; exit 1; }
	optuna-dashboard "$${OPTUNA_STORAGE:-optuna.journal}" --host 127.0.0.1 --port $(or $(PORT),8080)

# Whoever joins needs the token, and Ray sends no usage statistics. Without HOST it listens on the loopback only, which
# needs a variable that Ray has for other systems: else it takes another address of this machine for 127.0.0.1.
RAY := RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

cluster-head: .venv/cluster ## start a Ray cluster on this machine: make cluster-head [HOST=192.168.0.10], its address
	@ray get-auth-token --generate > /dev/null 2>&1
	$(RAY) $(if $(HOST),,RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0) ray start --head --include-dashboard=false \
	  $(if $(HOST),--node-ip-address=$(HOST)) > /dev/null
	@echo 'make: started; to use it: export RAY_ADDRESS=$(or $(HOST),127.0.0.1):6379'

cluster-join: .venv/cluster ## add this machine to a cluster: make cluster-join ADDRESS=192.168.0.10:6379
	@[ -n '$(ADDRESS)' ] || { echo 'make: ADDRESS is missing; as in: make cluster-join ADDRESS=192.168.0.10:6379'; exit 1; }
	@ray get-auth-token > /dev/null 2>&1 || \
	  { echo "make: ~/.ray/auth_token is missing; copy it from the cluster's head"; exit 1; }
	$(RAY) ray start --address='$(ADDRESS)' > /dev/null
	@echo 'make: joined; to use it: export RAY_ADDRESS=$(ADDRESS)'

cluster-leave: .venv/cluster ## stop all that Ray runs on this machine
	ray stop > /dev/null
	@echo 'make: Ray is stopped on this machine'

lint: .venv/installed ## check style, formatting, types and the layers of the packages
	ruff check .
	ruff format --check .
	mypy
	PYTHONPATH=src:. lint-imports --no-logo

notebook: .venv/notebook ## open docs/chapter.ipynb, the reference notebook with this library, in JupyterLab
	jupyter lab docs/chapter.ipynb

docs: .venv/notebook ## write docs/perturbations.md anew from the code, and docs/chapter.ipynb from chapter.py
	PYTHONPATH=src python -c 'from motionbench.reporting import report; print(report.describe_perturbations(), end="")' > docs/perturbations.md
	jupytext --quiet --to ipynb docs/chapter.py

# One worker, and none for jobs, which only MLflow's pages on language models start: they cost two gigabytes.
ui: .venv/installed ## show all runs at http://127.0.0.1:5000 (mlflow ui): make ui [PORT=5001]
	@python -m pipeline.ui "$(or $(PORT),5000)" &
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 --port $(or $(PORT),5000)

mlflow-sync: .venv/installed ## log to MLflow what the files have and its store has not; safe to repeat
	python -m pipeline.mlflow_sync

COMPILE := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
  --no-emit-index-url --no-emit-find-links

lock: .venv/installed ## resolve requirements.lock and those of the optional groups anew from pyproject.toml
	$(COMPILE) --group dev pyproject.toml --output-file requirements.lock
	for each in cluster backbone notebook; do \
	  python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$$each'], sep='\n')" | \
	    $(COMPILE) --constraint requirements.lock - --output-file requirements-$$each.lock || exit; done

clean: ## remove .venv, decoded clips and what the tools cache; clips, models, reports and runs stay
	rm -rf .venv .decoded .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# Written last, so that an interrupted installation starts again. It names its folder: an environment cannot be moved.
# Without the Python that it was made with, or with another version in that one's place, it is without its packages.
INSTALLED := $(shell .venv/bin/python -Ic 'import pip' > /dev/null 2>&1 && [ "$$(cat .venv/installed)" = "$$(pwd -P)" ] && echo here)
ifeq "$(INSTALLED)" ""
.PHONY: .venv/installed
endif
.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	  { echo "make: $(PYTHON) is not Python 3.11, 3.12 or 3.13; name one that is: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: $(PYTHON) lacks venv; install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@[ -e .git ] || \
	  { echo "make: DVC needs a git repository; run: git init && git add --all && git commit --message start"; exit 1; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
# No telemetry from MLflow in any process of this environment; DVC's is off in .dvc/config.
	@.venv/bin/python -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'mlflow_telemetry_off.pth') \
	  .write_text('import os; os.environ.setdefault(\"MLFLOW_DISABLE_TELEMETRY\", \"true\")\n')"
	@pwd -P > $@

.venv/cluster .venv/backbone .venv/notebook: .venv/%: requirements-%.lock .venv/installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
