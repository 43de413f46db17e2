#!/usr/bin/env bash
# All that needs an NVIDIA GPU, ordered by worth, in at most 400 s. Each part has a limit and a log of
# its own, and the results are packed anew after each, so that a part that fails or is cut loses
# nothing else.
#
#   benchmarks/gpu_check.sh [out/gpu_check]
#
# Writes FOLDER/ (logs, JSON, summary.md, what was trained) and FOLDER.tar.gz with all of it but data
# and checkpoints. Variables: PYTHON (.venv/bin/python where it is), LIMIT_SEC (400), DEVICE (cuda;
# cpu tries the script itself at tiny sizes).
# Needs requirements.txt but tensorboard, pytest for the CUDA tests, and nvcc of PyTorch's CUDA; no network.
# Exit code: 0; 1 where a part failed, was cut or found no time; 2 without a GPU.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
out=${1:-out/gpu_check}
device=${DEVICE:-cuda}
python=${PYTHON:-python3}
[ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && python=.venv/bin/python
export PYTHON=$python DEVICE=$device PYTHONUNBUFFERED=1
end=$((SECONDS + ${LIMIT_SEC:-400}))
failed=0
mkdir -p "$out" || exit 1
: >"$out/summary.md"

pack() {
    tar -czf "$out.part" --exclude=data --exclude='*.pt' --exclude='*.pkl' \
        -C "$(dirname "$out")" "$(basename "$out")" && mv "$out.part" "$out.tar.gz"
}

# part NAME SECONDS COMMAND...: run within both limits, keep the output, pack the results.
part() {
    local name=$1 most=$2 left=$((end - SECONDS)) began=$SECONDS code
    shift 2
    [ "$device" = cpu ] && most=$left # where it is only tried, a slow machine may take its time
    if [ "$left" -lt 5 ]; then
        echo "## $name: skipped, no time left" | tee -a "$out/summary.md"
        failed=1
        pack
        return
    fi
    echo "== $name"
    timeout -k 5 "$((left < most ? left : most))" "$@" 2>&1 | tee "$out/$name.log"
    code=$?
    [ "$code" -eq 0 ] || failed=1
    {
        echo "## $name (exit code $code, $((SECONDS - began)) s)"
        echo
        grep -E "^(\\{'device|\\||first run|kimg|FAILED|ERROR|[0-9]+ (passed|failed|skipped))" "$out/$name.log"
        echo
    } >>"$out/summary.md"
    pack
}

step() {
    part "step_$1" "$2" "$python" benchmarks/train_step.py --device="$device" "${size[@]}" \
        --json="$out/step_$1.json" "${@:3}"
}

if [ "$device" = cuda ]; then
    size=(--resolution=256 --cbase=16384 --batch=12 --repeats=3)
    images=(--resolution=256) ops=(--resolution=128 --channels=128 --batch=12)
    known=100000 backbone=r50 batches=1,16,64
    if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        echo "gpu_check: PyTorch finds no CUDA device; DEVICE=cpu tries the script itself" >&2
        exit 2
    fi
else
    size=(--resolution=16 --cbase=64 --cmax=8 --w-dim=8 --map-depth=1 --batch=2 --repeats=1)
    images=(--resolution=16 --cbase=64) ops=(--resolution=8 --channels=4 --batch=2)
    known=100 backbone=mobilefacenet batches=1,2
fi

part versions 20 "$python" -c 'import sys, torch
from benchmarks.common import describe_machine
print(describe_machine(torch.device(sys.argv[1])), torch.version.cuda, torch.backends.cudnn.version())' \
    "$device"
if [ "$device" = cuda ]; then
    part build 90 "$python" -c 'from torch_utils.ops.cuda_kernels import CudaKernels
CudaKernels.built(); print("both CUDA extensions are built")'
fi
step untuned 40 --nobench=1 --ops=auto
step auto 45
part training 135 benchmarks/gpu_train.sh 115 "$out/training"
# A warning of another version of a package is worth reading, but must not cost a GPU's time.
part tests 60 "$python" -m pytest tests -m cuda -q -W default -p no:cacheprovider \
    --continue-on-collection-errors
part profile 40 "$python" benchmarks/train_step.py --device="$device" "${size[@]}" --p=0.5 \
    --ops=auto --profile="$out/profile.txt"
part generate 25 "$python" benchmarks/generate.py --batches="$batches" --device="$device" \
    "${images[@]}" --json="$out/generate.json"
part label 30 "$python" benchmarks/label_dataset.py --device="$device" "${images[@]}" \
    --no-plain --out="$out/label.json"
step nhwc 30 --nhwc=1 --ops=auto
step bf16_nhwc 30 --nhwc=1 --half=bfloat16 --ops=auto
step tf32 30 --allow-tf32=1 --ops=auto
step batch32 40 --batch=32 --ops=auto
for dtype in float16 bfloat16 float32; do
    part "ops_$dtype" 20 "$python" benchmarks/ops.py "${ops[@]}" --device="$device" \
        --dtype="$dtype" --nhwc=0 --repeats=3 --json="$out/ops_$dtype.json"
done
part filter 40 "$python" benchmarks/filter.py "${images[@]:0:1}" --device="$device" \
    --backbone="$backbone" --known="$known" --samples=16 --repeats=1 --json="$out/filter.json"

echo "results are in $out.tar.gz; $out/summary.md holds the tables"
exit "$failed"
