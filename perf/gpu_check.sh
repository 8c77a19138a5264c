#!/bin/sh
# Checks and times the deformable-attention op and the training step on one GPU.
#
#     sh perf/gpu_check.sh check      builds and tests: at most 4 minutes
#     sh perf/gpu_check.sh measure    speed: at most 5 minutes
#
# from the repository's root; both words: one after the other. PYTHON=… (default .venv's), OUT=… (default reports/gpu),
# LIMIT=… seconds for each word in place of its own, ONLY="graphs harness" for these parts alone. The most valuable
# parts come first; each writes $OUT/PART.txt (and csv, plots) as it goes and a line of $OUT/summary.txt as it ends, so
# that a run that is cut short loses the rest alone. After each part all of $OUT is packed into one file, $ARCHIVE
# (default $OUT.tgz, beside the folder), to be fetched at once. Exits with 1 if a part failed or did not fit into the
# time, with 2 for other words.
#
# check:   environment, graphs (CUDA graphs of whole networks), tests (the op: values, CUDA graphs, streams, autocast,
#          more than 2^31 elements), harness (training and evaluation on the GPU), compiled (torch.compile of blocks),
#          memcheck, racecheck, compile (of the op: registers and spills). Nothing here is timed, so with 8 cores and
#          60 GB of free GPU memory all parts after the first run beside each other; BESIDE=1 or BESIDE=0 decides it.
# measure: goal (the step beside the published way, one PanNuke split), inference, validation (by compiled blocks), ops
#          (every backend beside its peers and the floor), loader, ways (of the backward pass), methods, share (of the
#          op in a step), profile (of a step's kernels), and, where time is left, tune (what the op's plan chooses,
#          beside what it could) and levers
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

# pack NAME: the archive anew; the last one stays until it is whole. A file that grows meanwhile (exit code 1) is no harm
pack() {
    tar -czf "$ARCHIVE.$1.part" --exclude '*.tgz' --exclude '*.part' -C "$(dirname "$OUT")" "$(basename "$OUT")"
    [ $? -lt 2 ] && mv "$ARCHIVE.$1.part" "$ARCHIVE" || echo "$ARCHIVE: NOT WRITTEN" | tee -a "$OUT/summary.txt"
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
    pack "$name"
}

# beside COMMAND…: the command, which may be a part, beside those begun so; where they may not, after them
begun=
beside() {
    if [ "$BESIDE" = 1 ]; then
        (failed=0 && "$@"; exit $failed) &
        begun="$begun $!"
    else
        "$@"
    fi
}

# together: waits for all that was begun beside each other
together() {
    for one in $begun; do
        wait "$one" || failed=1
    done
    begun=
    pack all
}

# room: whether programs can run beside each other: 8 cores and 60 GB of GPU memory free
room() {
    free=$(nvidia-smi --query-gpu=memory.free --format=csv,noheader,nounits 2> /dev/null | head -n 1)
    case $free in '' | *[!0-9]*) return 1 ;; esac
    [ "$free" -ge 60000 ] && [ "$(nproc)" -ge 8 ]
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
    [ -n "$BESIDE" ] || { room && BESIDE=1; }
    part environment 15 sh -c "nvidia-smi; '$PYTHON' -m torch.utils.collect_env"
    needs graphs mmengine timm skimage pyarrow && beside part graphs 100 "$PYTHON" $harness -k graphs
    beside part tests 150 "$PYTHON" -m pytest tests/ops/test_cuda_gpu.py -m gpu -rs --durations=10
    if [ -z "$missing" ]; then
        beside part harness 120 "$PYTHON" $harness -k "not graphs and not compiled"
        beside part compiled 190 "$PYTHON" $harness -n 2 -k compiled
    fi
    beside kernels
    together
}

# kernels: each of the op's, as compute-sanitizer and the compiler see it
kernels() {
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
    # one process for both: the step that a split needs is also the goal's
    needs goal mmengine timm skimage pyarrow &&
        part goal 170 "$PYTHON" $step/goal --steps 40 --limit 155 --parts split goal
    if [ -z "$missing" ]; then
        part inference 40 "$PYTHON" perf/inference.py --images 1024 --out "$OUT"
        part validation 90 "$PYTHON" $step/validation --limit 80 --parts validation
    fi
    part ops 50 "$PYTHON" perf/bench_ops.py --dtype fp32 bf16 --limit 40 --out "$OUT/ops"
    [ -n "$missing" ] || part loader 30 "$PYTHON" $step/loader --limit 25 --parts loader
    part ways 40 "$PYTHON" perf/gpu_ways.py --csv "$OUT/ways.csv"
    if [ -z "$missing" ]; then
        part methods 60 "$PYTHON" $step/methods --steps 30 --limit 50 --parts methods
        part share 40 "$PYTHON" perf/op_share.py
        part profile 60 "$PYTHON" perf/step_profile.py --out "$OUT"
    fi
    part tune 60 "$PYTHON" perf/gpu_tune.py --limit 50 --csv "$OUT/tune.csv"
    [ -n "$missing" ] ||
        part levers 120 "$PYTHON" $step/levers --steps 30 --limit 110 --parts levers graph curve
}

if ! "$PYTHON" -c 'import sys; from benchmark.ops import cuda; ok, why = cuda.usable(); sys.exit(None if ok else why)'; then
    echo "the backend 'cuda' cannot run here (see above); nothing was checked" | tee -a "$OUT/summary.txt" >&2
    exit 1
fi
for word in "$@"; do
    limit=240
    [ "$word" = check ] || limit=300
    until=$(($(date +%s) + ${LIMIT:-$limit}))
    "$word"
done
exit $failed
