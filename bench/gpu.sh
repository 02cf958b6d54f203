#!/usr/bin/env bash
# Everything that a bare GPU machine can tell, within nine minutes, core times within the first three: see bench/README.md.
#
#     OUT=FOLDER bench/gpu.sh [STEP...]
#
# Rows and log go to OUT (else ./bench-out) as they come, a short table is printed last. Needs no network; PYTHON names the
# interpreter that has torch. DRY=1 runs all steps in tiny on the CPU. Unverified on hardware.
set -euo pipefail

out=${OUT:-$PWD/bench-out}
mkdir -p "$out"
OUT=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
export OUT PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" -m bench.gpu "$@"
