#!/bin/sh
# Checks and times the deformable-attention op and the training step on one GPU.
#
#     sh perf/gpu_check.sh check      builds and tests: at most 4 minutes
#     sh perf/gpu_check.sh measure    speed, beside peers and goals: at most 5 minutes
#     sh perf/gpu_check.sh levers     what each lever is worth, where the time goes: at most 5 minutes
#
# from the repository's root; several words: one after the other. PYTHON=… (default .venv's), OUT=… (default reports/gpu),
# LIMIT=… seconds for each word in place of its own, ONLY="graphs harness" for these parts alone, COMMIT=… for the rows of
# the csv where git does not know it. The most valuable parts come first; each writes $OUT/PART.txt (and csv, plots) as it
# goes and a line of $OUT/summary.txt as it ends, so that a run that is cut short loses the rest alone. After each part
# all of $OUT is packed into one file, $ARCHIVE (default $OUT.tgz, beside the folder), to be fetched at once. Exits with 1
# if a part failed or did not fit into the time, with 2 for other words.
#
# check:   environment, graphs (CUDA graphs of whole networks), tests (the op: values, CUDA graphs, streams, autocast,
#          more than 2^31 elements), harness (training and evaluation on the GPU), compiled (torch.compile of blocks),
#          curve (the loss of bf16 beside fp32), memcheck, racecheck, compile (of the op: registers and spills). Nothing
#          here is timed, so with 8 cores and 75 GB of free GPU memory all parts after the first run beside each other;
#          BESIDE=1 or BESIDE=0 decides it.
# measure: step (one PanNuke split, the step beside the published way, the loader), inference, ops (every backend beside
#          its peers, where installed, and the floor), methods (the other networks), ways (of the op's backward pass)
# levers:  validation (by compiled blocks), levers (each alone), profile (of a step's kernels), share (of the op in a
#          step), tune (what the op's plan chooses, beside what it could), graph (the step by hand, and as one graph)
cd "$(dirname "$0")/.." || exit 1
[ $# -gt 0 ] || set -- help
for word in "$@"; do
    case $word in
        check | measure | levers) ;;
        *)
            echo "usage: sh perf/gpu_check.sh check | measure | levers" >&2
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
    [ -z "$whole" ] && [ "$left" -ge "$limit" ] || limit=$left
    echo "== $name"
    # at SIGINT pytest still prints what has failed so far, and why
    timeout -s INT -k 5 "$limit" "$@" > "$OUT/$name.txt" 2>&1 &
    running=$!
    wait "$running"
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
    rows=$(grep -c ": not run, " "$OUT/$name.txt")
    [ "$rows" = 0 ] || verdict="$verdict, $rows rows not run"
    counts=$(grep -E "^(=+ )?[0-9]+ passed" "$OUT/$name.txt" | tail -n 1 | tr -d =)
    echo "$name: $verdict ($seconds s) $counts" | tee -a "$OUT/summary.txt"
    [ "$code" = 0 ] || tail -n 15 "$OUT/$name.txt"
    pack "$name"
}

# stop: at a signal, ends what runs
stop() {
    trap - INT TERM HUP
    kill $running $begun 2> /dev/null
    wait
    exit 143
}
running= begun= whole=
trap stop INT TERM HUP

# beside NAME SECONDS COMMAND…: the part beside those begun so, in the time that is left; where they may not, after them
beside() {
    if [ "$BESIDE" = 1 ]; then
        (
            running= begun= whole=yes failed=0
            trap stop TERM
            part "$@"
            exit $failed
        ) &
        begun="$begun $!"
    else
        part "$@"
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

# room: whether programs can run beside each other: 8 cores, and memory for tests that take 50 GB of the GPU's
room() {
    free=$(nvidia-smi --query-gpu=memory.free --format=csv,noheader,nounits 2> /dev/null | head -n 1)
    case $free in '' | *[!0-9]*) return 1 ;; esac
    [ "$free" -ge 75000 ] && [ "$(nproc)" -ge 8 ]
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
    needs graphs mmengine timm skimage pyarrow && beside graphs 100 "$PYTHON" $harness -k graphs
    beside tests 150 "$PYTHON" -m pytest tests/ops/test_cuda_gpu.py -m gpu -rs --durations=10
    if [ -z "$missing" ]; then
        beside harness 90 "$PYTHON" $harness -k "not graphs and not compiled"
        each=$("$PYTHON" -c "import xdist" 2> /dev/null && echo "-n 2")
        beside compiled 180 "$PYTHON" $harness $each -k compiled
    fi
    if command -v compute-sanitizer > /dev/null 2>&1; then
        # every kernel once, small; without torch's cache of memory each tensor is an allocation of its own
        # of memcheck, wrong accesses alone: torch's start asks the driver for things that it may refuse
        beside memcheck 45 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck \
            --report-api-errors no --error-exitcode 9 "$PYTHON" perf/gpu_every_kernel.py
        beside racecheck 45 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool racecheck \
            --error-exitcode 9 "$PYTHON" perf/gpu_every_kernel.py
    else
        echo "memcheck, racecheck: not run, compute-sanitizer is not on the PATH" | tee -a "$OUT/summary.txt"
    fi
    [ -n "$missing" ] ||
        beside curve 120 "$PYTHON" perf/train_step.py --out "$OUT/curve" --scale small --steps 100 --parts curve
    beside compile 50 "$PYTHON" -m pytest tests/ops/test_cuda_compile.py -rP
    together
}

step="perf/train_step.py --out $OUT"

measure() {
    if needs step mmengine timm skimage pyarrow; then
        # one process: the step that a split needs is also the goal's, and most of a short part is its start
        part step 200 "$PYTHON" $step/step --steps 100 --limit 185 --parts split goal loader
        part inference 50 "$PYTHON" perf/inference.py --images 1024 --out "$OUT"
    fi
    part ops 50 "$PYTHON" perf/bench_ops.py --dtype fp32 bf16 --limit 40 --out "$OUT/ops"
    [ -n "$missing" ] || part methods 60 "$PYTHON" $step/methods --steps 30 --limit 50 --parts methods
    part ways 40 "$PYTHON" perf/gpu_ways.py --csv "$OUT/ways.csv"
}

levers() {
    if needs validation mmengine timm skimage pyarrow; then
        part validation 90 "$PYTHON" $step/validation --limit 80 --parts validation
        part levers 130 "$PYTHON" $step/levers --steps 20 --limit 120 --parts levers
        part profile 60 "$PYTHON" perf/step_profile.py --out "$OUT"
        part share 40 "$PYTHON" perf/op_share.py --csv "$OUT/share.csv"
    fi
    part tune 40 "$PYTHON" perf/gpu_tune.py --limit 30 --csv "$OUT/tune.csv"
    [ -n "$missing" ] || part graph 60 "$PYTHON" $step/graph --steps 30 --limit 50 --parts graph
}

if ! "$PYTHON" -c 'import sys; from benchmark.ops import cuda; ok, why = cuda.usable(); sys.exit(None if ok else why)'; then
    echo "the backend 'cuda' cannot run here (see above); nothing was checked" | tee -a "$OUT/summary.txt" >&2
    exit 1
fi
for word in "$@"; do
    limit=285 # what is running is given 5 seconds to end, and the archive is packed
    [ "$word" != check ] || limit=228
    until=$(($(date +%s) + ${LIMIT:-$limit}))
    "$word"
done
exit $failed
