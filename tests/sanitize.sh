#!/usr/bin/env bash
# Builds the extension with AddressSanitizer and UndefinedBehaviorSanitizer in a temporary copy of the package, and runs
# tests on it (arguments: those of pytest; by default the small cases of the CPU backend). New memory is filled with
# NaN, so numbers that nobody wrote do not go unseen either. PYTHON and CXX choose the interpreter and compiler (GCC).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -s "${PYTHON:-$root/.venv/bin/python}")
cxx=${CXX:-g++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -r "$root/csrc" "$root/ncafast" "$root/tests" "$root/pyproject.toml" "$work"
cd "$work"
rm -f ncafast/_C.*
includes=$("$python" -c 'import pybind11, sysconfig
print("-isystem", pybind11.get_include(), "-isystem", sysconfig.get_path("include"))')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
flags="-std=c++17 -O1 -g -fPIC -fopenmp -fvisibility=hidden -fno-omit-frame-pointer
  -fsanitize=address,undefined -fno-sanitize-recover=undefined -Icsrc -Icsrc/cpu $includes"
export cxx flags
# shellcheck disable=SC2016  # expanded by the inner shell
find csrc/bind.cpp csrc/cpu -name '*.cpp' -print0 |
  xargs -0 -n 1 -P 2 bash -c '$cxx $flags -c "$1" -o "$(basename "$1" .cpp).o"' compile
# shellcheck disable=SC2086  # several flags in one string
$cxx $flags -shared ./*.o -o "ncafast/_C$suffix"

if [ $# -eq 0 ]; then
  set -- tests/backends/test_cpu.py tests/backends/test_cpu_edges.py tests/backends/test_cpu_random.py tests/backends/test_cpu_threads.py tests/engine/test_philox.py \
    -k "not dataloader and not torch_allows and not two_python_threads"
fi
# Python is not built with the sanitizer, so its library must come first; it wants the C++ one beside it.
export LD_PRELOAD="$("$cxx" -print-file-name=libasan.so) $("$cxx" -print-file-name=libstdc++.so)"
export ASAN_OPTIONS="detect_leaks=0:max_malloc_fill_size=1073741824:malloc_fill_byte=255:detect_stack_use_after_return=1"
export UBSAN_OPTIONS="print_stacktrace=1"
"$python" -m pytest -q -p no:cacheprovider "$@"
