#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, on a host that may have no network and no virtual
# environment: builds the CUDA kernels, runs their tests, compute-sanitizer and the benchmarks.
#
#   tools/gpu_suite.sh [PART...]      all parts, or some of those that `--help` lists
#
# Each part writes a log and ends within LIMIT seconds; a table of all comes last. A part that can't
# run here says why, and is no failure.
#
#   PYTHON      interpreter with NumPy, torch, pybind11, pytest, hypothesis, ml_dtypes  (python3)
#   BUILD       where the build goes                                                   (build/gpu)
#   LOGS        where the logs go                                                 (build/gpu-logs)
#   LIMIT       seconds a part                                                               (570)
#   JOBS        tests at a time, where pytest-xdist is there                                   (4)
#   SANITIZED   which tests of tests/gpu run under compute-sanitizer (pytest -k)
#   BENCH_ARGS  more for `python -m benchmarks.gpu`, such as --quick
#   OPS         a libsplitop_ops.so of the same sources, built on another host, where the
#               TensorFlow of this one has no headers to build it with
set -uo pipefail
SELF=$(realpath "${BASH_SOURCE[0]}")
cd "$(dirname "$SELF")/.."

PYTHON=${PYTHON:-python3}
BUILD=$(realpath -m "${BUILD:-build/gpu}")
LOGS=$(realpath -m "${LOGS:-build/gpu-logs}")
LIMIT=${LIMIT:-570}
JOBS=${JOBS:-4}
SANITIZED=${SANITIZED:-torch and (test_every_strategy_and_rule or test_many_tiles_and_chunks or test_every_rule)}
BENCH_ARGS=${BENCH_ARGS:-}
OPS=${OPS:-}
LIBRARIES=$BUILD/install/splitop/lib
PARTS=(build tests memcheck racecheck initcheck synccheck kernels tables op tensorflow)
SKIPPED=77 # exit status of a part that can't run here
NOT_HERE=3 # that of a benchmark

export PYTHONUNBUFFERED=1
export PATH=$PATH:/usr/local/cuda/bin

has_module() { "$PYTHON" -c "import $1" >/dev/null 2>&1; }

# Without a GPU the tests would pass by being skipped.
require_gpu() {
  local problem
  problem=$("$PYTHON" -c 'from splitop._src import library; print(library.cuda_reason() or "")') ||
    exit
  [[ -z $problem ]] || skip "$problem"
}

skip() {
  echo "Skipped: $*"
  exit $SKIPPED
}

# ---- the parts: each runs in a shell of its own ----

part_build() {
  local tensorflow=OFF generator=()
  can_build_op && tensorflow=ON
  command -v ninja >/dev/null && generator=(-G Ninja)
  # Line numbers for compute-sanitizer; the code is that of a release.
  cmake -S . -B "$BUILD" "${generator[@]}" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCMAKE_INSTALL_PREFIX="$BUILD/install" -DPython_EXECUTABLE="$(command -v "$PYTHON")" \
    -DSPLITOP_CUDA=ON -DSPLITOP_TENSORFLOW=$tensorflow || exit
  cmake --build "$BUILD" --target install --parallel "$(nproc)" || exit
  [[ $tensorflow == OFF && -n $OPS ]] && install_op
  SPLITOP_LIBRARY_DIR=$LIBRARIES "$PYTHON" -c '
from splitop.lib import _kernels
print(_kernels.cuda_state_message(), *_kernels.cuda_devices(), sep="\n")'
}

can_build_op() {
  "$PYTHON" -c '
import pathlib, tensorflow as tf
assert (pathlib.Path(tf.sysconfig.get_include()) / "tensorflow/core/framework/op.h").exists()
' >/dev/null 2>&1
}

# The C ABI between the op and the kernels is that of the sources, so the op may be built elsewhere.
install_op() {
  cp "$OPS" "$LIBRARIES/" && "$PYTHON" - "$LIBRARIES/build_config.json" <<'PYTHON'
import json, pathlib, sys

import tensorflow as tf

path = pathlib.Path(sys.argv[1])
path.write_text(json.dumps({**json.loads(path.read_text()), "tensorflow": tf.__version__}))
PYTHON
}

run_pytest() {
  local parallel=()
  has_module xdist && parallel=(-n "$JOBS")
  # pytest-benchmark warns of xdist, and warnings are errors.
  "$PYTHON" -m pytest -q -p no:cacheprovider -p no:benchmark "${parallel[@]}" "$@"
}

# The op's come later: TensorFlow would take the GPU's memory from the other processes.
part_tests() {
  require_gpu
  run_pytest tests/gpu --ignore=tests/gpu/test_op.py
}

part_memcheck() { sanitize memcheck --report-api-errors no --kernel-name kns=splitop; }
part_racecheck() { sanitize racecheck --kernel-name kns=splitop; }
# Of all kernels: what one that is left out has written would count as uninitialized.
part_initcheck() { sanitize initcheck; }
part_synccheck() { sanitize synccheck --kernel-name kns=splitop; }

sanitize() {
  require_gpu
  command -v compute-sanitizer >/dev/null || skip "there is no compute-sanitizer"
  # One allocation a tensor: in torch's pool, what lies beyond a tensor is still allocated.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$@" --target-processes all \
    --error-exitcode 99 "$PYTHON" -m pytest -q -p no:cacheprovider -p no:benchmark tests/gpu \
    --ignore=tests/gpu/test_op.py -k "$SANITIZED"
}

part_kernels() {
  # shellcheck disable=SC2086  (several arguments)
  benchmark benchmarks.gpu --part kernels $BENCH_ARGS
}
part_tables() { benchmark benchmarks.gpu.tables; }
part_tensorflow() {
  use_tensorflow
  # shellcheck disable=SC2086  (several arguments)
  benchmark benchmarks.gpu --part tensorflow $BENCH_ARGS
}

benchmark() {
  "$PYTHON" -m "$@"
  local status=$?
  [[ $status == "$NOT_HERE" ]] && skip "see above"
  exit $status
}

use_tensorflow() {
  require_gpu
  has_module tensorflow || skip "TensorFlow can't be imported"
  [[ -e $LIBRARIES/libsplitop_ops.so ]] || skip "the op is not built: see OPS in this script"
  TF_CPP_MIN_LOG_LEVEL=2 "$PYTHON" -c '
import tensorflow as tf
assert tf.config.list_physical_devices("GPU")' || skip "TensorFlow sees no GPU"
  # XLA looks for libdevice in the packages of CUDA 12, which need not be there.
  [[ -d /usr/local/cuda/nvvm ]] &&
    export XLA_FLAGS=${XLA_FLAGS:---xla_gpu_cuda_data_dir=/usr/local/cuda}
  export CUDA_MODULE_LOADING=LAZY TF_FORCE_GPU_ALLOW_GROWTH=true TF_CPP_MIN_LOG_LEVEL=2
}

part_op() {
  use_tensorflow
  run_pytest -m gpu tests/gpu/test_op.py tests/op tests/planner tests/numerics
}

# ---- one after the other ----

summary=()
failed=0

run_part() {
  local part=$1 log=$LOGS/$1.log start=$SECONDS status result
  echo "== $part"
  timeout --kill-after=10 "$LIMIT" "$SELF" --inside "$part" >"$log" 2>&1
  status=$?
  case $status in
    0) result=passed ;;
    "$SKIPPED") result=skipped ;;
    124 | 137) result="TIMED OUT" ;;
    *) result="FAILED ($status)" ;;
  esac
  [[ $result == passed || $result == skipped ]] || failed=1
  tail -n 15 "$log"
  summary+=("$(printf '%-11s %-12s %5d s  %s' "$part" "$result" $((SECONDS - start)) \
    "$(grep -v '^ *$' "$log" | tail -n 1 | cut -c 1-100)")")
}

case ${1:-} in
  --help)
    sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$SELF"
    echo "Parts: ${PARTS[*]}"
    exit
    ;;
  --inside)
    export SPLITOP_LIBRARY_DIR=$LIBRARIES
    [[ $2 == build ]] && unset SPLITOP_LIBRARY_DIR
    "part_$2"
    exit
    ;;
esac

for part in "$@"; do
  [[ " ${PARTS[*]} " == *" $part "* ]] ||
    { echo "A part must be one of: ${PARTS[*]}. Received: $part" >&2 && exit 2; }
done
[[ $# -gt 0 ]] || set -- "${PARTS[@]}"
mkdir -p "$LOGS"
export PYTHON BUILD LOGS LIMIT JOBS SANITIZED BENCH_ARGS OPS
for part in "$@"; do run_part "$part"; done
printf '\n'
printf '%s\n' "${summary[@]}" | tee "$LOGS/summary.txt"
exit $failed
