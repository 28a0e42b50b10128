#!/usr/bin/env bash
# Installs Aethr from the checkout that this script is in into $RUNNER_TEMP/aethr-venv: with uv where it is there, else with pip.
# Works outside of the workspace and without configuration files: a pull request must not choose what is installed.
# Nor may the index: what comes from it is in requirements.txt, byte for byte, and nothing of it is built here.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$RUNNER_TEMP/aethr-venv
cd "$RUNNER_TEMP"
[ ! -e "$venv/run" ] || exit 0 # a second use in the same job

python=${AETHR_PYTHON:-python3}
if command -v uv >/dev/null; then
    uv venv --quiet --no-config --clear --python "$python" "$venv"
    install=(uv pip install --quiet --no-config --python "$venv/bin/python")
else
    "$python" -I -m venv --clear "$venv"
    install=("$venv/bin/python" -I -m pip install --quiet --disable-pip-version-check)
fi

# Only wheels: a source distribution is built with whatever its own build requirements resolve to on that day.
"${install[@]}" --require-hashes --only-binary :all: --requirement "$checkout/requirements.txt"
# Aethr itself is built by the backend that has just been installed.
"${install[@]}" --no-index --no-deps --no-build-isolation "$checkout"

# -I: nothing is imported from the folder that it works in.
printf '#!/usr/bin/env bash\nexec "%s/python" -I -m aethr "$@"\n' "$venv/bin" >"$venv/run"
chmod +x "$venv/run"
