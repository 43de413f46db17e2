#!/usr/bin/env bash
# Trains on the example faces at 64x64 for some seconds; the same command continues.
#
#   benchmarks/gpu_train.sh [SECONDS=600] [FOLDER=out/gpu_train]
#
# Variables: PYTHON, DEVICE (cuda; cpu takes tiny sizes). FOLDER gets data/ and runs/; the last
# lines say how many images were shown and whether all losses are finite.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
seconds=${1:-600}
folder=${2:-out/gpu_train}
end=$((SECONDS + seconds))
python=${PYTHON:-python3}
[ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && python=.venv/bin/python
data=(--identities=400 --samples=4 --resolution=64)
options=(--batch=32 --tick=2 --snap=5 --kimg=100000 --mirror=1)
if [ "${DEVICE:-cuda}" = cpu ]; then
    data=(--identities=10 --samples=1 --resolution=16)
    options=(--batch=250 --cbase=64 --cmax=8 --tick=1 --snap=1 --kimg=1)
fi

"$python" prepare_dataset.py example --outdir="$folder/data" "${data[@]}" || exit 1
timeout --preserve-status -k 30 "$((end - SECONDS > 10 ? end - SECONDS - 5 : 10))" \
    "$python" train_db_stylegan2.py --data="$folder/data" --outdir="$folder/runs" \
    --device="${DEVICE:-cuda}" "${options[@]}"
code=$?
[ "$code" -eq 0 ] || [ "$code" -eq 143 ] || exit "$code" # 143: stopped by the clock, as planned
"$python" - "$folder" <<'PYTHON'
import json, math, sys
from pathlib import Path

stats = sorted(Path(sys.argv[1]).glob("runs/*/stats.jsonl"))
lines = stats[-1].read_text().splitlines() if stats else sys.exit("no tick was reached")
last = json.loads(lines[-1])
means = {name: entry["mean"] for name, entry in last.items() if isinstance(entry, dict)}
print(f"kimg {means['Progress/kimg']:.2f}, sec/kimg {means['Timing/sec_per_kimg']:.2f}")
bad = [name for name, value in means.items() if not math.isfinite(value)]
sys.exit(f"not finite: {', '.join(bad)}" if bad else 0)
PYTHON
