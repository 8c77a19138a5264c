#!/bin/sh
# Builds, checks and times the deformable-attention op on one GPU in less than 8 minutes.
#
#     sh perf/gpu_check.sh            from the repository's root; PYTHON=… OUT=… (default reports/gpu)
#
# Writes under $OUT: environment.txt, compile.txt (registers and spills), tests.txt, ways.csv, ops/ (csv and plot),
# step.txt (share of a training step), memcheck.txt, racecheck.txt, and summary.txt with one line per part.
# Exits with 1 if a part failed.
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-reports/gpu}
if [ -z "$PYTHON" ]; then
    PYTHON=python3
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$OUT" || exit 1
: > "$OUT/summary.txt"
failed=0

# part NAME SECONDS COMMAND…: runs the command, its output in $OUT/NAME.txt
part() {
    name=$1 limit=$2 verdict=
    shift 2
    echo "== $name"
    start=$(date +%s)
    timeout "$limit" "$@" > "$OUT/$name.txt" 2>&1
    code=$?
    seconds=$(($(date +%s) - start))
    # on some virtual machines the tool cannot attach to the GPU at all
    [ "$code" = 0 ] || ! grep -q "Device not supported" "$OUT/$name.txt" ||
        code=0 verdict="not run, compute-sanitizer does not support this device"
    case $code in
        0) verdict=${verdict:-passed} ;;
        124) verdict="FAILED: more than $limit s" failed=1 ;;
        *) verdict="FAILED with $code" failed=1 ;;
    esac
    echo "$name: $verdict ($seconds s)" | tee -a "$OUT/summary.txt"
    [ "$code" = 0 ] || tail -n 15 "$OUT/$name.txt"
}

if ! "$PYTHON" -c 'import sys; from benchmark.ops import cuda; ok, why = cuda.usable(); sys.exit(None if ok else why)'; then
    echo "the backend 'cuda' cannot run here (see above); nothing was checked" | tee -a "$OUT/summary.txt" >&2
    exit 1
fi
part environment 30 sh -c "nvidia-smi; '$PYTHON' -m torch.utils.collect_env"
part compile 50 "$PYTHON" -m pytest tests/ops/test_cuda_compile.py -rP
part tests 150 "$PYTHON" -m pytest tests/ops/test_cuda_gpu.py -m gpu -rs --durations=10
part ways 40 "$PYTHON" perf/gpu_ways.py --csv "$OUT/ways.csv"
part bench 60 "$PYTHON" perf/bench_ops.py --dtype fp32 bf16 --out "$OUT/ops"
# the model of a training step comes through the registry, which the op itself does not need
missing=$("$PYTHON" -c 'import importlib.util as u; print(*[n for n in ("mmengine", "timm") if not u.find_spec(n)])')
if [ -z "$missing" ]; then
    part step 50 "$PYTHON" perf/op_share.py
else
    echo "step: not run, the model needs $missing" | tee -a "$OUT/summary.txt"
fi
# every kernel once, small; without torch's cache of memory each tensor is an allocation of its own
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
if command -v compute-sanitizer > /dev/null 2>&1; then
    # of memcheck, wrong accesses alone: torch's start asks the driver for things that it may refuse
    part memcheck 45 compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 9 \
        "$PYTHON" perf/gpu_every_kernel.py
    part racecheck 45 compute-sanitizer --tool racecheck --error-exitcode 9 "$PYTHON" perf/gpu_every_kernel.py
else
    echo "memcheck, racecheck: not run, compute-sanitizer is not on the PATH" | tee -a "$OUT/summary.txt"
fi
exit $failed
