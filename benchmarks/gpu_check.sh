#!/usr/bin/env bash
# Runs all that needs an NVIDIA GPU, within 10 minutes: CUDA tests, operations against plain
# PyTorch, training steps at 256x256 (batch 12 and the largest that fits), generation.
# Tables on standard output; JSON, logs and summary.md in the folder given.
#
#   benchmarks/gpu_check.sh [out/gpu_check]
#
# Variables: PYTHON (.venv/bin/python where it is), LIMIT_SEC (570), MAX_BATCH (192).
# Exit code: 0; 1 where a step failed or found no time; 2 without a GPU.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
out=${1:-out/gpu_check}
python=${PYTHON:-python3}
[ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && python=.venv/bin/python
end=$((SECONDS + ${LIMIT_SEC:-570}))
failed=0
no_time=125
mkdir -p "$out" || exit 1
: >"$out/summary.md"

# step NAME SECONDS COMMAND...: run within both limits, keep the output.
step() {
    local name=$1 most=$2 left=$((end - SECONDS)) code
    shift 2
    if [ "$left" -lt 10 ]; then
        echo "== $name: skipped, no time left" | tee -a "$out/summary.md"
        return "$no_time"
    fi
    echo "== $name"
    timeout -k 5 "$((left < most ? left : most))" "$@" 2>&1 | tee "$out/$name.log"
    code=$?
    { echo "## $name (exit code $code)"; echo; grep -E '^(\||device|FAILED|ERROR|[0-9]+ (passed|failed))' \
        "$out/$name.log"; echo; } >>"$out/summary.md"
    return "$code"
}

train_step() {
    step "train_step_$1" 120 "$python" benchmarks/train_step.py --resolution=256 --cbase=16384 \
        --batch="$2" --device=cuda --repeats=5 --json="$out/train_step_$1.json" "${@:3}"
}

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "gpu_check: PyTorch finds no CUDA device; this script is for a machine with a GPU" >&2
    exit 2
fi

step build 150 "$python" -c 'from torch_utils.ops.cuda_kernels import CudaKernels
CudaKernels.built(); print("both CUDA extensions are built")' || failed=1
# A warning of another version of a package is worth reading, but must not cost a GPU's time.
step tests 180 "$python" -m pytest tests -m cuda -q -W default -p no:cacheprovider \
    --continue-on-collection-errors || failed=1
train_step fp16 12 || failed=1
train_step fp16_nhwc 12 --nhwc=1 || failed=1
train_step bf16_nhwc 12 --nhwc=1 --half=bfloat16 || failed=1
step generate 60 "$python" benchmarks/generate.py --batches=1,4,16,64 --device=cuda \
    --json="$out/generate.json" || failed=1
for dtype in float32 float16 bfloat16; do
    for nhwc in 0 1; do
        step "ops_${dtype}_nhwc$nhwc" 45 "$python" benchmarks/ops.py --resolution=128 \
            --channels=128 --batch=12 --device=cuda --dtype="$dtype" --nhwc="$nhwc" \
            --json="$out/ops_${dtype}_nhwc$nhwc.json" || failed=1
    done
done
# The largest batch that fits: doubled until one does not, or until the time is over.
batch=24
while [ "$batch" -le "${MAX_BATCH:-192}" ]; do
    train_step "batch$batch" "$batch" --ops=auto
    code=$?
    if [ "$code" -ne 0 ]; then
        [ "$code" -eq "$no_time" ] || [ "$code" -eq 124 ] \
            || grep -qi "memory is full" "$out/train_step_batch$batch.log" || failed=1
        break
    fi
    batch=$((batch * 2))
done

echo "results are in $out; summary.md holds the tables"
exit "$failed"
