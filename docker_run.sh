#!/usr/bin/env bash
# Run a command of this project in its container, as the calling user.
#
#   docker build --tag biface:latest .
#   ./docker_run.sh python train_db_stylegan2.py --data=DATASETS/my_pairs --outdir=EXPERIMENTS/runs
#
# IMAGE    image to run               (biface:latest)
# GPUS     docker's --gpus value      (all; "device=1" for the second, "none" for the CPU)
# SHM      shared memory for loaders  (8g)
# CACHE    folder for compiled operations and downloads (~/.cache/biface)
set -euo pipefail

if [ "$#" -eq 0 ]; then
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
fi

IMAGE="${IMAGE:-biface:latest}"
GPUS="${GPUS:-all}"
SHM="${SHM:-8g}"
CACHE="${CACHE:-$HOME/.cache/biface}"
HERE="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$CACHE"

options=(--rm --init --shm-size="$SHM" --user "$(id -u):$(id -g)"
    --volume "$HERE:/workspace" --volume "$CACHE:/cache" --workdir /workspace)
if [ "$GPUS" != none ]; then
    options+=(--gpus "$GPUS")
fi
if [ -t 0 ] && [ -t 1 ]; then
    options+=(--interactive --tty)
fi
exec docker run "${options[@]}" "$IMAGE" "$@"
