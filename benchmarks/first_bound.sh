#!/usr/bin/env bash
# From `git clone` to the first proven bound of a network of one's own, step by step, as docs/install.md says it.
#
#     bash benchmarks/first_bound.sh [REPOSITORY]
#
# Works in a folder of its own, which it removes. Wall seconds depend on the connection and on what else the machine does; CPU seconds
# are those of all steps so far.
set -euo pipefail
source=${1:-$(git rev-parse --show-toplevel)}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=2
unset PYTHONPATH VIRTUAL_ENV
start=$SECONDS
step() {
    times > cpu
    printf '%5d s, %5.0f CPU s  %s\n' $((SECONDS - start)) "$(awk 'NR == 2 { gsub(/s/, ""); split($1, u, "m"); split($2, k, "m"); print 60 * (u[1] + k[1]) + u[2] + k[2] }' cpu)" "$1"
}

git clone -q "$source" sdplip
step "cloned"
cd sdplip
python3 -m venv .venv
.venv/bin/pip install -c constraints.txt .
step "installed"
.venv/bin/python - <<'PYTHON'
import numpy as np  # stands for a network that you trained somewhere

rng = np.random.default_rng(0)
shapes = {"fc1": (64, 20), "fc2": (64, 64), "fc3": (5, 64)}
np.savez("mine.npz", **{f"{name}.weight": rng.normal(size=s) / np.sqrt(s[1]) for name, s in shapes.items()})
PYTHON
.venv/bin/sdplip bound mine.npz
step "the first bound"
echo "Disk: $(du -sm .venv | cut -f1) MB, of which"
du -sm .venv/lib/python3*/site-packages/* | sort -rn | head -10 | sed 's|\.venv/lib/python3[^/]*/site-packages/||'
