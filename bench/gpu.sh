#!/usr/bin/env bash
# Everything that a bare GPU machine can tell, within eight minutes: build in place, GPU tests, ceilings, baselines and
# our backends. CSV and log go to the folder named by OUT (else ./bench-out), a short table is printed last. Without a
# GPU the CPU parts run. Needs no network; PYTHON names the interpreter that has torch. Unverified on hardware.
set -uo pipefail

python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
out=${OUT:-$PWD/bench-out}
limit=${LIMIT_S:-460}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$root" || exit 1
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
exec > >(tee "$out/log.txt") 2>&1

step() { # name, most seconds, command...: runs while time is left, and says how it ended
  local name=$1 most=$2 left=$((limit - SECONDS)) start=$SECONDS code
  shift 2
  if [ "$left" -lt 10 ]; then
    printf '\n== %s: left out, no time\n' "$name"
    return
  fi
  printf '\n== %s\n' "$name"
  timeout "$((most < left ? most : left))" "$@"
  code=$?
  printf '== %s: exit code %d after %d s\n' "$name" "$code" "$((SECONDS - start))"
}

# A machine that cannot fetch pybind11 still has the copy inside torch.
if ! "$python" -c 'import pybind11' 2>/dev/null; then
  shim=$(mktemp -d)
  trap 'rm -rf "$shim"' EXIT
  cat > "$shim/pybind11.py" <<'SHIM'
import importlib.util, os
def get_include():
    return os.path.join(os.path.dirname(importlib.util.find_spec("torch").origin), "include")
SHIM
  PYTHONPATH=$shim:$PYTHONPATH
fi

gpu=$("$python" -c 'import torch; print(int(torch.cuda.is_available()))')
step machine 60 bash -c 'nvidia-smi; nvcc --version; '"$python"' --version'
step build 240 "$python" setup.py build_ext --inplace
step info 60 "$python" -m ncafast info

bench() { # name, most seconds, options...
  step "$1" "$2" "$python" -m bench --out "$out" "${@:3}"
}

# What the CPU's stand-in for a GPU claims of tensor cores, copies, clusters and barriers, asked of the GPU itself.
hardware_agrees() {
  local program name failed=0
  command -v nvcc > /dev/null || { echo 'there is no nvcc'; return 0; }
  program=$(mktemp)
  nvcc -std=c++17 -arch=native -Icsrc tests/cuda_shim/selftest.cu -o "$program" || return 1
  for name in arena 'async copy' atomics barrier cluster 'cluster turns' 'dependent launch' 'grid sync' 'load matrix' 'mma bf16' 'mma tf32' \
    'named barrier' rounding warp words; do
    "$program" "$name" || { echo "$name: exit code $?"; failed=1; }
  done
  rm -f "$program"
  return "$failed"
}

sanitized() { # tool, tests
  command -v compute-sanitizer > /dev/null || { echo 'there is no compute-sanitizer'; return 0; }
  NCAFAST_BACKEND=cuda PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$1" --error-exitcode 1 \
    --kernel-name regex:ncafast "$python" -m pytest -q tests/gpu_suite.py tests/cuda_*_suite.py -k "$2"
}
export -f hardware_agrees sanitized
export python

main=(maxnca maxnca-bn med-fine texture growing 3d-k3)
if [ "${gpu:-0}" = 1 ]; then
  step 'CUDA kernels' 90 env NCAFAST_BACKEND=cuda "$python" -m pytest -q tests/gpu_suite.py tests/cuda_*_suite.py
  step 'the shim against the GPU' 60 bash -c hardware_agrees
  step 'compute-sanitizer memcheck' 60 bash -c 'sanitized memcheck "$1"' - 'parity_with_float64 and (2d or alive or batch) or each_way and parts'
  step 'compute-sanitizer racecheck' 60 bash -c 'sanitized racecheck "$1"' - 'parity_with_float64 and (reflect or alive) or each_way and alive'
  step 'Triton kernels' 150 env NCAFAST_BACKEND=triton "$python" -m pytest -q tests/gpu_suite.py tests/triton_suite/{kernels,tuned}.py
  step tests 60 "$python" -m pytest -q tests -k '(gpu or cuda or triton) and not compile and not kernels'
  # A backend that is unverified on hardware runs only where it is named.
  export NCAFAST_BACKEND=cuda
  bench 'eager and CUDA' 150 --provider eager ncafast --rounds 7 --case "${main[@]}"
  bench 'torch.compile' 200 --provider eager compile ncafast --rounds 7 --case "${main[@]}"
  bench 'torch.compile with CUDA graphs' 200 --provider eager compile-max ncafast --rounds 7 --case "${main[@]}"
  export NCAFAST_BACKEND=triton
  bench 'eager and Triton' 150 --provider eager ncafast --rounds 7
  # Last, since what is measured here is kept on the machine and holds from then on.
  step 'tile sizes' 120 env NCAFAST_TUNE=1 "$python" -m bench --out "$out/tuned" --provider ncafast --rounds 3
else
  echo 'no GPU: the CPU parts only'
  step tests 120 "$python" -m pytest -q -x tests/test_bench.py -k 'equal or broken'
  bench 'quick CPU run' 200 --quick
fi

printf '\n'
"$python" -m bench table "$out"
printf 'CSV and log: %s, %d s\n' "$out" "$SECONDS"
