# Targets create .venv themselves. Variables: METHOD FOLD SEED METHODS FOLDS SEEDS DATASET CLASSES DATA_ROOT PRESET EXPERIMENT
# DOWNLOAD=1 ACCEPT BACKBONE WEIGHTS ANY_FOLD=1 PAPER TRAIN=1 TRAIN TEST TEST_FOLD (of transfer) IMAGES OUT FROM MPP BATCH PRECISION PROTOCOL FORMAT KEEP_MAPS=1 STALE=rerun SHARD=i/n DEVICE SET ("recipe.epochs=3 …") ARGS (of pytest) COUNT (of fuzz, kills) EACH (of damage)
# LAUNCHER=local DEVICES=cuda:0,cuda:1 | LAUNCHER=slurm SLURM="partition=gpu time=4:00:00" DETACH=1 | LAUNCHER=ray RAY=address
# EXTRAS (what is installed beside the program: dev by default, dev,slurm,ray)
# PYTHON PIP_ARGS RESULTS REPORTS CACHE
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python3.14 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& $$p -c 'import venv, ensurepip' 2>/dev/null && { command -v $$p; break; }; done)
VENV ?= .venv
RUN := $(VENV)/bin/python -m benchmark
READY := $(VENV)/.ready
# a worker per usable core, one compute thread each; at most 4, as one takes up to 2 GiB. A later -n overrides this one
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

export BENCHMARK_RESULTS := $(RESULTS)
export BENCHMARK_REPORTS := $(REPORTS)
export BENCHMARK_CACHE := $(CACHE)
ifeq ($(strip $(RESULTS)),)
unexport BENCHMARK_RESULTS
endif
ifeq ($(strip $(REPORTS)),)
unexport BENCHMARK_REPORTS
endif
ifeq ($(strip $(CACHE)),)
unexport BENCHMARK_CACHE
endif

# a value as one word of the shell, whatever quotes it holds
quoted = '$(subst ','\'',$(1))'
option = $(if $($(2)),--$(1) $(call quoted,$($(2))))

# CLASSES=4 is short for DATASET=…@classes=4
comma = ,
several = CLASSES=$(CLASSES): DATASET=$(DATASET) joins several data sets; write @classes=$(CLASSES) behind the one it is for
DATA = $(if $(and $(CLASSES),$(findstring +,$(DATASET))),$(error $(several)))$(DATASET)$(if $(CLASSES),$(if $(findstring @,$(DATASET)),$(comma),@)classes=$(CLASSES))

GRID = $(call option,experiment,EXPERIMENT) $(call option,dataset,DATA) \
	$(call option,data-root,DATA_ROOT) $(call option,preset,PRESET) \
	$(call option,backbone,BACKBONE) $(call option,device,DEVICE)
# overrides come before options that take several values, which would swallow them
OVERRIDES = $(foreach s,$(SET),$(call quoted,$(s)))
MAPS = $(if $(filter-out 0,$(KEEP_MAPS)),--keep-maps)
PART = $(if $(METHODS),--methods $(foreach m,$(METHODS),$(call quoted,$(m)))) $(if $(FOLDS),--folds $(FOLDS)) \
	$(if $(SEEDS),--seeds $(SEEDS))

SHOWN = $(call option,dataset,DATA) $(call option,protocol,PROTOCOL) \
	$(call option,experiment,EXPERIMENT)

.NOTPARALLEL: # under -j too, `make ablation table` is one after the other

.PHONY: help ablation evaluate transfer reproduce table run status test bench bench-ops bench-metrics report predict reference keep adopt merge datasets prepare lint clean \
	test-slow test-parity fuzz kills damage

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  example: make ablation FOLDS=all SEEDS='0 1 2'"
	@echo "  example: make run METHOD=cellvta FOLD=1 PRESET=small DATASET=pannuke DATA_ROOT=/data/pannuke"

ablation: $(READY) ## run the missing cells of the experiment (default: main, on synthetic data), print the table
	@$(RUN) ablation $(GRID) $(OVERRIDES) $(PART) $(call option,stale,STALE) $(call option,shard,SHARD) \
		$(call option,launcher,LAUNCHER) $(call option,devices,DEVICES) $(call option,slurm,SLURM) $(call option,ray,RAY) \
		$(if $(filter-out 0,$(DETACH)),--detach) $(MAPS)

run: $(READY) ## run one cell: METHOD=hovernet FOLD=2 [SEED=0] [PRESET=small DATASET=pannuke DATA_ROOT=...]
	@$(if $(METHOD),,echo "error: METHOD is missing; for example: make run METHOD=hovernet FOLD=2" >&2; exit 2)
	@$(RUN) run $(GRID) $(call option,method,METHOD) $(call option,fold,FOLD) $(call option,seed,SEED) $(OVERRIDES) \
		$(MAPS)

evaluate: $(READY) ## evaluate weights from a file: WEIGHTS=model.pth [METHOD=cellvta] [DATASET=pannuke] DATA_ROOT=... FOLD=1
	@$(if $(WEIGHTS),,echo "error: WEIGHTS is missing; for example: make evaluate WEIGHTS=model.pth DATA_ROOT=/data/pannuke" >&2; exit 2)
	@$(RUN) evaluate $(call option,weights,WEIGHTS) $(call option,method,METHOD) $(call option,dataset,DATA) \
		$(call option,data-root,DATA_ROOT) $(call option,fold,FOLD) $(call option,device,DEVICE) \
		$(if $(filter-out 0,$(ANY_FOLD)),--any-fold) $(OVERRIDES)

transfer: $(READY) ## trained here, tested there: METHOD=hovernet PRESET=small TRAIN=pannuke:/data/pannuke TEST="monuseg:/data/monuseg consep:/data/consep"
	@$(if $(and $(METHOD),$(TRAIN),$(TEST)),,echo "error: METHOD, TRAIN or TEST is missing; for example: make transfer METHOD=hovernet PRESET=small TRAIN=pannuke:/data/pannuke TEST='monuseg:/data/monuseg consep:/data/consep'" >&2; exit 2)
	@$(RUN) transfer $(call option,experiment,EXPERIMENT) $(call option,method,METHOD) $(call option,data-root,DATA_ROOT) \
		$(call option,preset,PRESET) $(call option,backbone,BACKBONE) $(call option,device,DEVICE) \
		$(call option,fold,FOLD) $(call option,test-fold,TEST_FOLD) $(call option,seed,SEED) \
		$(call option,protocol,PROTOCOL) $(OVERRIDES) \
		--train $(foreach d,$(TRAIN),$(call quoted,$(d))) --test $(foreach d,$(TEST),$(call quoted,$(d)))

reproduce: $(READY) ## a paper's figures from its official files: PAPER=cellvta-pannuke DATA_ROOT=... WEIGHTS=dir, or TRAIN=1; without PAPER a list
	@$(RUN) reproduce $(call quoted,$(or $(PAPER),list)) $(call option,data-root,DATA_ROOT) $(call option,weights,WEIGHTS) \
		$(call option,backbone,BACKBONE) $(call option,device,DEVICE) $(if $(filter-out 0,$(TRAIN)),--train) $(OVERRIDES) \
		$(call option,stale,STALE) $(if $(FOLDS),--folds $(FOLDS))

table: $(READY) ## write the tables from finished runs, print the main ones [FORMAT=csv] [PROTOCOL=all]
	@$(RUN) table $(SHOWN) $(call option,format,FORMAT)

report: $(READY) ## tables, figures and a self-contained page reports/index.html from finished runs
	@$(RUN) report $(SHOWN)

predict: $(READY) ## nuclei in images or slides of your own: WEIGHTS=model.pth IMAGES=slide.svs OUT=found/ [METHOD= MPP= BATCH= PRECISION=]
	@$(if $(and $(IMAGES),$(OUT)),,echo "error: IMAGES or OUT is missing; for example: make predict WEIGHTS=model.pth IMAGES=tiles OUT=found" >&2; exit 2)
	@$(RUN) predict $(call option,weights,WEIGHTS) $(call option,method,METHOD) $(call option,images,IMAGES) \
		$(call option,out,OUT) $(call option,mpp,MPP) $(call option,batch,BATCH) $(call option,precision,PRECISION) \
		$(call option,device,DEVICE)

reference: $(READY) ## keep the finished runs on the embedded data under docs/reference, renew the README's results; the ledger of reproduced figures
	@$(RUN) reference --only-ledger
	@$(RUN) report --dataset synthetic
	@$(RUN) reference

keep: $(READY) ## finished runs in compact form, to be committed: OUT=docs/reference/… [DATASET= PRESET= METHODS=]
	@$(if $(OUT),,echo "error: OUT is missing; for example: make keep OUT=kept PRESET=small" >&2; exit 2)
	@$(RUN) keep $(call option,out,OUT) $(call option,dataset,DATA) $(call option,preset,PRESET) \
		$(if $(METHODS),--methods $(foreach m,$(METHODS),$(call quoted,$(m))))

adopt: $(READY) ## kept runs into the folder of results, where they are done: FROM=docs/reference/embedded
	@$(if $(FROM),,echo "error: FROM is missing; for example: make adopt FROM=docs/reference/embedded" >&2; exit 2)
	@$(RUN) adopt $(call quoted,$(FROM))

merge: $(READY) ## finished runs of other machines into the folder of results: FROM="/mnt/a/results /mnt/b/results"
	@$(if $(FROM),,echo "error: FROM is missing; for example: make merge FROM='/mnt/a/results /mnt/b/results'" >&2; exit 2)
	@$(RUN) merge $(foreach d,$(FROM),$(call quoted,$(d)))

status: $(READY) ## the state of every cell, and why
	@$(RUN) status $(GRID) $(OVERRIDES) $(PART)

datasets: $(READY) ## the data sets that can be read: images, types, splits, licence, and what of each is prepared here
	@$(RUN) datasets

prepare: $(READY) ## convert a dataset once into the cache: DATASET=pannuke DATA_ROOT=/data/pannuke [DOWNLOAD=1 ACCEPT=licence]
	@$(RUN) prepare $(call option,dataset,DATA) $(call option,data-root,DATA_ROOT) \
		$(if $(filter-out 0,$(DOWNLOAD)),--download) $(call option,accept,ACCEPT)

test: $(READY) ## the tests (no network, no GPU) [ARGS="tests/metrics -k golden"]
	@$(PYTEST) -m "not slow and not parity and not gpu" $(ARGS)

test-slow: $(READY) ## the long tests that `make test` leaves out
	@$(PYTEST) -m "slow and not gpu" $(ARGS)

fuzz: $(READY) ## damaged inputs through every reader and command [COUNT=20000] [SEED=0]
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VENV)/bin/python -m tests.support.fuzz --count $(or $(COUNT),20000) --seed $(or $(SEED),0)

kills: $(READY) ## an ablation killed at any moment and resumed, byte for byte as an unbroken one [COUNT=100] [SEED=0]
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VENV)/bin/python -m tests.support.kills --count $(or $(COUNT),100) --seed $(or $(SEED),0)

damage: $(READY) ## every file of a finished run damaged: named or harmless, never another number [EACH=50] [SEED=0]
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VENV)/bin/python -m tests.support.damage --each $(or $(EACH),50) --seed $(or $(SEED),0)

test-parity: $(READY) ## full-size models against the golden figures of the reference data
	@$(VENV)/bin/python -m pytest -m parity $(ARGS)

bench-metrics: $(READY) ## speed of metrics and post-processing, beside cellpose, stardist and torchmetrics when installed
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VENV)/bin/python perf/metrics_speed.py $(ARGS)
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(VENV)/bin/python perf/postproc_speed.py

bench-ops: $(READY) ## deformable attention: backends side by side at CellVTA's shapes, and its share of a training step
	@$(VENV)/bin/python perf/bench_ops.py --dtype fp32 bf16 fp16 $(ARGS)
	@$(VENV)/bin/python perf/op_share.py

bench: $(READY) ## speed scripts, ratios printed
	@for script in perf/*.py; do echo "== $$script"; $(VENV)/bin/python $$script || exit 1; done

lint: $(READY) ## ruff, and mypy over the folders that pyproject.toml lists
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

clean: ## remove the virtual environment, caches and reports (never results)
	rm -rf $(VENV) cache reports/*/ reports/index.html .pytest_cache .ruff_cache .mypy_cache *.egg-info

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer with its venv module was not found; install it (for example: apt-get install python3 python3-venv) or name it with PYTHON=/path/to/python3." >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "error: $(PYTHON) is not Python 3.11 or newer; install one or name it with PYTHON=/path/to/python3." >&2; exit 2; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv module; install it (for example: apt-get install python3-venv)." >&2; exit 2; }
	@test -x $(VENV)/bin/python || "$(PYTHON)" -m venv $(VENV)
	@echo "installing the dependencies into $(VENV) (once; torch is large) …" >&2
	@$(VENV)/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[$(or $(EXTRAS),dev)]'
	@touch $@
