# Sourced by the other scripts: makes .venv with the tested set of packages, once, and puts it first on PATH.
# A second run costs a checksum. PYTHON chooses another interpreter.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
stamp=$(cat pyproject.toml constraints.txt scripts/environment.sh | sha256sum)
if [ "$(cat .venv/.stamp 2>/dev/null)" != "$stamp" ]; then
  python=${PYTHON:-$(command -v python3.11 || command -v python3)}
  echo "installing into .venv (once; a few minutes)" >&2
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  # torch comes first and pinned: anything that pulls it along by itself may take a build of several gigabytes.
  .venv/bin/python -m pip install --quiet "$(grep '^torch==' constraints.txt)"
  .venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[test,check]"
  echo "$stamp" > .venv/.stamp
fi
export PATH="$root/.venv/bin:$PATH"
