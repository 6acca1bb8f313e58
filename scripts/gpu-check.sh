#!/usr/bin/env bash
# Qualifies a machine: builds, runs the whole test suite and the GPU's benchmarks, watches memory, and writes
# gpu-check.json and gpu-check.txt. In an unpacked bundle (npm run gpu:bundle) it takes the Node that lies in there.
#
#     scripts/gpu-check.sh [--out DIR] [--device cuda|cpu] [--quick] [--seconds N]
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -x "$root/node/bin/node" ]; then
  PATH="$root/node/bin:$PATH"
  export PATH
elif ! command -v node >/dev/null; then
  echo 'gpu-check: there is no Node here: install Node 20 or newer, or use a bundle, which brings one (npm run gpu:bundle)' >&2
  exit 1
fi
exec node "$root/scripts/gpu-check.js" "$@"
