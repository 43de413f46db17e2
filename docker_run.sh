#!/usr/bin/env bash
# Run a command of this project in its container, as the calling user.
#
#   docker build --tag biface:latest .
#   ./docker_run.sh python train_db_stylegan2.py --data=DATASETS/my_pairs --outdir=EXPERIMENTS/runs
#
# IMAGE    image to run               (biface:latest)
# GPUS     docker's --gpus value      (all; "device=1" for the second, "device=0,2", "none" for the CPU)
# SHM      shared memory for loaders  (8g)
# CACHE    folder for compiled operations and downloads (~/.cache/biface)
# MOUNT    another folder that the command needs, by its full path; links out of this folder need it
set -euo pipefail

if [ "$#" -eq 0 ]; then
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 2
fi

IMAGE="${IMAGE:-biface:latest}"
GPUS="${GPUS:-all}"
SHM="${SHM:-8g}"
CACHE="${CACHE:-$HOME/.cache/biface}"
HERE="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$CACHE"

options=(--rm --init --shm-size="$SHM" --user "$(id -u):$(id -g)"
    --volume "$HERE:/workspace" --volume "$CACHE:/cache" --workdir /workspace
    --env BIFACE_OFFLINE --env OMP_NUM_THREADS)
if [ -n "${MOUNT:-}" ]; then
    options+=(--volume "$MOUNT:$MOUNT")
fi
case "$GPUS" in
    none) ;;
    device=*) options+=(--gpus "\"$GPUS\"") ;; # docker reads a list with commas only in quotes
    *) options+=(--gpus "$GPUS") ;;
esac
if [ -t 0 ] && [ -t 1 ]; then
    options+=(--interactive --tty)
fi
exec docker run "${options[@]}" "$IMAGE" "$@"
