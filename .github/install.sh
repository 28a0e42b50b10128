#!/usr/bin/env bash
# Installs Aethr from this checkout of the action into $RUNNER_TEMP/aethr-venv: with uv where it is there, else with pip.
# Works outside of the workspace and without configuration files: a pull request must not choose what is installed.
set -euo pipefail

venv=$RUNNER_TEMP/aethr-venv
cd "$RUNNER_TEMP"
[ ! -e "$venv/run" ] || exit 0 # a second use in the same job

python=${AETHR_PYTHON:-python3}
if command -v uv >/dev/null; then
    uv venv --quiet --no-config --clear --python "$python" "$venv"
    uv pip install --quiet --no-config --python "$venv/bin/python" "$GITHUB_ACTION_PATH"
else
    "$python" -I -m venv --clear "$venv"
    "$venv/bin/python" -I -m pip install --quiet --disable-pip-version-check "$GITHUB_ACTION_PATH"
fi

# -I: nothing is imported from the folder that it works in.
printf '#!/usr/bin/env bash\nexec "%s/python" -I -m aethr "$@"\n' "$venv/bin" >"$venv/run"
chmod +x "$venv/run"
