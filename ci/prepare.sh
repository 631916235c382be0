# Sourced by ci/up and ci/test: what both need on a fresh Debian or Ubuntu machine. Safe to run again and again.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# install_packages NAME…: install by apt what is missing, as root or with sudo; else say what to type and go on:
# what then cannot be built is shown as unavailable.
install_packages() {
    local missing=() name
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local apt=(apt-get)
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            apt=(sudo -n apt-get)
        else
            say "! not installed, and only root can: apt-get install ${missing[*]}"
            return 0
        fi
    fi
    say "installing ${missing[*]} …"
    local log
    log=$(mktemp)
    # one lock for two of us at once; apt itself waits for other users of its own
    if ! (
        export DEBIAN_FRONTEND=noninteractive
        "${apt[@]}" update -qq && "${apt[@]}" -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends "${missing[@]}"
    ) >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        say "! could not be installed: ${missing[*]}; what needs them is shown as unavailable"
    fi
    rm -f "$log"
}

# usable_python: a Python 3.11 or newer, for root one that other users can run too.
usable_python() {
    local candidates=(python3 python3.13 python3.12 python3.11) name
    [ "$(id -u)" -ne 0 ] || candidates=(/usr/bin/python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11)
    for name in "${candidates[@]}"; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return 0
        fi
    done
    die "Python 3.11 or newer with its venv module is needed (Debian 12, Ubuntu 24.04: apt-get install python3-venv)"
}

# make_environment FOLDER EXTRAS [-e]: a virtual environment with this checkout in it, renewed when the checkout changed.
make_environment() {
    local folder=$1 extras=$2 editable=${3:-} stamp python
    python=$(usable_python)
    mkdir -p "$(dirname "$folder")"
    exec 9>"$folder.lock"
    flock 9
    stamp=$("$python" --version; printf '%s %s\n' "$extras" "$editable"; stamp_files "$editable" | sort -z | xargs -0 sha256sum)
    if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1 || [ "$(cat "$folder/.stamp" 2>/dev/null)" != "$stamp" ]; then
        say "preparing the Python environment in $folder …"
        # an interrupted start, or a new Python of the system, leaves one that does not work
        "$folder/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$folder"
        rm -rf build
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade ${editable:+-e} ".[$extras]" >&2
        rm -rf build
        printf '%s\n' "$stamp" >"$folder/.stamp"
    fi
    exec 9>&-
}

stamp_files() {
    if [ -n "$1" ]; then
        printf 'pyproject.toml\0'
    else
        find pyproject.toml master steps workers -type f ! -name '*.pyc' -print0
    fi
}

BUILD_PACKAGES=(git ca-certificates python3 python3-venv build-essential cmake ninja-build ccache cargo
    libvulkan-dev mesa-vulkan-drivers glslang-tools spirv-tools)

# What a Docker engine of our own needs from apt, none of which starts a service.
ENGINE_PACKAGES=(runc iproute2 iptables mmdebstrap apache2-utils)

# provide_docker: the programs of a Docker engine and of a registry, unpacked into /var/lib/mlc-ci/docker and not
# installed: nothing of the system's changes, no service starts, no port opens. They are the distribution's own packages;
# where its engine is older than 23 (Debian 12), Debian 13's, from the same mirror and checked by apt with Debian's keys.
# Delete the folder to have newer ones fetched. Does nothing where the machine has them all, and without root.
provide_docker() {
    local folder=/var/lib/mlc-ci/docker wanted=()
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 0
    install_packages "${ENGINE_PACKAGES[@]}"
    if ! { usable_engine && docker compose version && command -v docker-registry; } >/dev/null 2>&1; then
        wanted=(docker.io docker-cli docker-buildx docker-compose docker-compose-v2 containerd tini docker-registry)
    fi
    [ ${#wanted[@]} -gt 0 ] || return 0
    mkdir -p "$(dirname "$folder")"
    exec 9>"$folder.lock"
    flock 9
    if [ ! -e "$folder" ]; then
        say "fetching a Docker engine and a registry into $folder …"
        local log
        log=$(mktemp)
        if ! (unpack_docker "$folder" "${wanted[@]}") >"$log" 2>&1; then
            tail -n 5 "$log" >&2
            say "! no Docker engine could be fetched; what needs one is shown as unavailable"
        fi
        rm -f "$log"
    fi
    exec 9>&-
}

# usable_engine: an engine on the PATH that knows what the image needs (RUN --mount, --network, the containerd store).
usable_engine() {
    local version
    version=$(dockerd --version 2>/dev/null | sed -n 's/^Docker version \([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 23 ] && docker buildx version >/dev/null 2>&1 && command -v containerd >/dev/null
}

# unpack_docker FOLDER PACKAGE…: those of the packages that there are.
unpack_docker() {
    set -euo pipefail
    local folder=$1 work options=() name found=()
    shift
    work=$(mktemp -d -p "$(dirname "$folder")")
    # shellcheck disable=SC2064  # the folder of this very call
    trap "rm -rf '$work'" EXIT
    chmod 755 "$work"  # apt fetches as a user of its own
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/tools"
    if dpkg --compare-versions "$(apt-cache policy docker.io | sed -n 's/^ *Candidate: //p')" lt 23; then
        local mirror
        # shellcheck disable=SC2016  # apt's own placeholders
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $(. /etc/os-release; echo "$VERSION_CODENAME")" | head -n 1)
        printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie main\n' "$mirror" >"$work/sources.list"
        options=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
            -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache")
        apt-get "${options[@]}" update -qq
    fi
    for name in "$@"; do
        ! apt-cache "${options[@]}" show --no-all-versions "$name" >/dev/null 2>&1 || found+=("$name")
    done
    cd "$work/debs"
    apt-get "${options[@]}" download -qq "${found[@]}"
    for name in *.deb; do
        dpkg-deb -x "$name" "$work/tools"
    done
    mv "$work/tools" "$folder"
}
