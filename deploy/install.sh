#!/bin/sh
# Install or update periop from this bundle, without a network:
#     ./install.sh [FOLDER]        by default /opt/periop; PYTHON=/path/to/python3.11 names another Python
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-/opt/periop}
python=${PYTHON:-python3.11}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

case "$(uname -s) $(uname -m)" in
"Linux x86_64" | "Linux aarch64") ;;
*) fail "this bundle is for Linux on x86_64 and aarch64 (arm64), and not for $(uname -s) on $(uname -m)" ;;
esac
command -v "$python" >/dev/null || fail "there is no $python; install Python 3.11, or name it: PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || fail "$python is not Python 3.11, for which the wheels are"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv; on Debian install python3.11-venv"

# Of a file that was changed or lost on its way nothing is installed.
(cd "$here" && sha256sum --check --quiet SHA256SUMS) || fail "a file of the bundle is damaged; copy it again"

# -I, --isolated: no setting of the environment or of a user's pip adds an index.
"$python" -I -m venv "$folder/.venv"
# --force-reinstall: another build of one version replaces it.
"$folder/.venv/bin/python" -I -m pip --isolated --disable-pip-version-check --quiet install --no-cache-dir \
    --no-index --find-links "$here/wheels" --require-hashes --no-deps --force-reinstall --root-user-action ignore \
    --requirement "$here/requirements.txt"
"$folder/.venv/bin/python" -I -m pip --isolated --disable-pip-version-check --quiet check

for part in deploy docs; do
    rm -rf "${folder:?}/$part"
    cp -R "$here/$part" "$folder/$part"
done
echo "installed: $("$folder/.venv/bin/periop" --version) in $folder/.venv/bin/periop"
