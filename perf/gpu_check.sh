#!/bin/sh
# Checks and times the deformable-attention op and the training step on one GPU.
#
#     sh perf/gpu_check.sh check      builds and tests: at most 6 minutes
#     sh perf/gpu_check.sh measure    speed: at most 7 minutes
#
# from the repository's root; both words: one after the other. PYTHON=… (default .venv's), OUT=… (default reports/gpu),
# LIMIT=… seconds for each word in place of its own, ONLY="graphs harness" for these parts alone. The most valuable parts come first; each writes $OUT/PART.txt (and
# csv, plots) as it goes and a line of $OUT/summary.txt as it ends, so that a run that is cut short loses the rest alone.
# After each part all of $OUT is packed into one file, $ARCHIVE (default $OUT.tgz, beside the folder), to be fetched at
# once. Exits with 1 if a part failed or did not fit into the time, with 2 for other words.
#
# check:   environment, graphs (CUDA graphs of whole networks), tests (the op: values, CUDA graphs, streams, autocast,
#          more than 2^31 elements), harness (training and evaluation on the GPU), compiled (torch.compile of blocks),
#          memcheck, racecheck, compile (of the op: registers and spills)
# measure: goal (the step, beside the published way), split (one PanNuke split), ops (every backend beside its peers and
#          the floor), inference, loader, ways (of the backward pass), share (of the op in a step), profile (of a step's
#          kernels), tune (what the op's plan chooses, beside what it could), methods, levers
cd "$(dirname "$0")/.." || exit 1
[ $# -gt 0 ] || set -- help
for word in "$@"; do
    case $word in
        check | measure) ;;
        *)
            echo "usage: sh perf/gpu_check.sh check | measure" >&2
            exit 2
            ;;
    esac
done
OUT=${OUT:-reports/gpu}
ARCHIVE=${ARCHIVE:-$OUT.tgz}
if [ -z "$PYTHON" ]; then
    PYTHON=python3
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$OUT" || exit 1
echo "== $*, $(date)" >> "$OUT/summary.txt"
failed=0

# pack: the archive anew; the last one stays until it is whole
pack() {
    tar -czf "$ARCHIVE.part" --exclude '*.tgz' --exclude '*.part' -C "$(dirname "$OUT")" "$(basename "$OUT")" &&
        mv "$ARCHIVE.part" "$ARCHIVE" || echo "$ARCHIVE: NOT WRITTEN" | tee -a "$OUT/summary.txt"
}

# part NAME SECONDS COMMAND…: runs the command, its output in $OUT/NAME.txt
part() {
    name=$1 limit=$2 verdict=
    shift 2
    case " ${ONLY:-$name} " in *" $name "*) ;; *) return ;; esac
    start=$(date +%s)
    left=$((until - start))
    if [ "$left" -lt 1 ]; then
        echo "$name: NOT RUN, the time is up" | tee -a "$OUT/summary.txt"
        failed=1
        return
    fi
    [ "$left" -ge "$limit" ] || limit=$left
    echo "== $name"
    # at SIGINT pytest still prints what has failed so far, and why
    timeout -s INT -k 5 "$limit" "$@" > "$OUT/$name.txt" 2>&1
    code=$?
    seconds=$(($(date +%s) - start))
    # on some virtual machines the tool cannot attach to the GPU at all
    [ "$code" = 0 ] || ! grep -q "Device not supported" "$OUT/$name.txt" ||
        code=0 verdict="not run, compute-sanitizer does not support this device"
    case $code in
        0) verdict=${verdict:-passed} ;;
        124 | 137) verdict="FAILED: more than $limit s" failed=1 ;;
        *) verdict="FAILED with $code" failed=1 ;;
    esac
    echo "$name: $verdict ($seconds s)" | tee -a "$OUT/summary.txt"
    [ "$code" = 0 ] || tail -n 15 "$OUT/$name.txt"
    pack
}

# needs NAME PACKAGE…: whether all packages can be imported; says for which part they cannot, and why
needs() {
    name=$1
    shift
    missing=
    why=$(for package in "$@"; do echo "import $package"; done | "$PYTHON" - 2>&1) && return
    missing=yes
    echo "$name: NOT RUN, $(echo "$why" | tail -n 1)" | tee -a "$OUT/summary.txt"
    failed=1
    return 1
}

check() {
    harness="-m pytest tests/training/test_gpu.py -m gpu -rs -vv"
    part environment 15 sh -c "nvidia-smi; '$PYTHON' -m torch.utils.collect_env"
    needs graphs mmengine timm skimage pyarrow && part graphs 100 "$PYTHON" $harness -k graphs
    part tests 150 "$PYTHON" -m pytest tests/ops/test_cuda_gpu.py -m gpu -rs --durations=10
    if [ -z "$missing" ]; then
        part harness 90 "$PYTHON" $harness -k "not graphs and not compiled"
        part compiled 90 "$PYTHON" $harness -k compiled
    fi
    if command -v compute-sanitizer > /dev/null 2>&1; then
        # every kernel once, small; without torch's cache of memory each tensor is an allocation of its own
        # of memcheck, wrong accesses alone: torch's start asks the driver for things that it may refuse
        part memcheck 45 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck \
            --report-api-errors no --error-exitcode 9 "$PYTHON" perf/gpu_every_kernel.py
        part racecheck 45 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool racecheck \
            --error-exitcode 9 "$PYTHON" perf/gpu_every_kernel.py
    else
        echo "memcheck, racecheck: not run, compute-sanitizer is not on the PATH" | tee -a "$OUT/summary.txt"
    fi
    part compile 50 "$PYTHON" -m pytest tests/ops/test_cuda_compile.py -rP
}

measure() {
    step="perf/train_step.py --out $OUT"
    if needs goal mmengine timm skimage pyarrow; then
        part goal 200 "$PYTHON" $step/goal --steps 40 --limit 150 --parts goal
        # the compiler has kept what it made for the part before
        part split 90 "$PYTHON" $step/split --steps 40 --limit 80 --parts split
    fi
    part ops 60 "$PYTHON" perf/bench_ops.py --dtype fp32 bf16 --limit 45 --out "$OUT/ops"
    if [ -z "$missing" ]; then
        part inference 40 "$PYTHON" perf/inference.py --out "$OUT"
        part loader 40 "$PYTHON" $step/loader --limit 30 --parts loader
    fi
    part ways 40 "$PYTHON" perf/gpu_ways.py --csv "$OUT/ways.csv"
    if [ -z "$missing" ]; then
        part share 40 "$PYTHON" perf/op_share.py
        part profile 60 "$PYTHON" perf/step_profile.py --out "$OUT"
    fi
    part tune 60 "$PYTHON" perf/gpu_tune.py --limit 50 --csv "$OUT/tune.csv"
    if [ -z "$missing" ]; then
        part methods 60 "$PYTHON" $step/methods --steps 30 --limit 50 --parts methods
        part levers 120 "$PYTHON" $step/levers --steps 30 --limit 110 --parts levers graph curve
    fi
}

if ! "$PYTHON" -c 'import sys; from benchmark.ops import cuda; ok, why = cuda.usable(); sys.exit(None if ok else why)'; then
    echo "the backend 'cuda' cannot run here (see above); nothing was checked" | tee -a "$OUT/summary.txt" >&2
    exit 1
fi
for word in "$@"; do
    limit=360
    [ "$word" = check ] || limit=420
    until=$(($(date +%s) + ${LIMIT:-$limit}))
    "$word"
done
exit $failed
