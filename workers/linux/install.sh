#!/usr/bin/env bash
# Makes this Debian or Ubuntu host an mlc-ci worker, from nothing; run as root. Again: changes only what differs.
#   install.sh --bundle FILE [options]     FILE is what `mlc-ci worker add NAME` wrote on the master
#   install.sh --uninstall NAME            removes the worker, its user and its folder; with the last one, all but packages
# Options:
#   --source DIR | --wheel FILE   what to install: a checkout (default: the one this script is in), or a wheel of it
#   --memory LIMIT                MemoryMax of the worker and all its builds (systemd's notation; default 90%)
#   --tasks N                     TasksMax, as many processes and threads (default 8192)
#   --no-packages                 install nothing by apt: it is all there
#   --no-start                    do not enable or start it
#   --dry-run                     only say what would be done
set -euo pipefail

VENV=/opt/mlc-ci-worker
HOMES=/var/lib/mlc-ci-worker
ETC=/etc/mlc-ci-worker
UNITS=/etc/systemd/system
TEMPLATE=mlc-ci-worker@.service
PACKAGES=(ca-certificates git python3 python3-venv build-essential cmake ninja-build pkg-config ccache
    libvulkan-dev mesa-vulkan-drivers glslang-tools spirv-tools spirv-headers)
# a rustup for all users, where there is one, is preferred to the distribution's cargo
RUSTUPS=(/usr/local /opt/rust /opt)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bundle='' uninstall='' wheel='' source=$here/../.. memory=90% tasks=8192 packages=yes start=yes dry=''
changes=0

say() { printf '%s\n' "$*"; }
die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}
# change WHAT COMMAND…: do it, and say so; or only say so
change() {
    changes=$((changes + 1))
    say "${dry:+would }$1"
    shift
    [ -n "$dry" ] || "$@"
}

main() {
    read_options "$@"
    [ -n "$dry" ] || [ "$(id -u)" -eq 0 ] || die "must run as root (what it installs runs as a user of its own)"
    if [ -n "$uninstall" ]; then
        name=$uninstall
        check_name
        remove
        return
    fi
    [ -r "$bundle" ] || die "--bundle: ${bundle:-nothing} cannot be read; \`mlc-ci worker add NAME\` on the master writes it"
    name=$(sed -n 's/^ *"name": "\([^"]*\)",\{0,1\}$/\1/p' "$bundle")
    check_name
    install_packages
    install_program
    make_user
    make_folder
    install_unit
    start_worker
    if [ "$changes" -eq 0 ]; then say "worker $name: nothing to change"; fi
}

read_options() {
    while [ $# -gt 0 ]; do
        case $1 in
        --bundle | --uninstall | --wheel | --source | --memory | --tasks)
            { [ $# -gt 1 ] && [[ $2 != --* ]]; } || die "$1 needs a value"
            printf -v "${1#--}" %s "$2"
            shift
            ;;
        --no-packages) packages='' ;;
        --no-start) start='' ;;
        --dry-run) dry=yes ;;
        -h | --help)
            sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) die "unknown option $1 (see --help)" ;;
        esac
        shift
    done
    [[ $memory =~ ^([0-9]+[KMGT%]?|infinity)$ ]] || die "--memory: $memory is no limit; 16G, 90% or infinity are"
    [[ $tasks =~ ^([0-9]+|infinity)$ ]] || die "--tasks: $tasks is no number"
}

check_name() {
    [[ $name =~ ^[A-Za-z][A-Za-z0-9_-]{0,49}$ ]] || die "${bundle:-$name} names no worker"
    folder=$HOMES/$name
    user=mlcci-$(printf %s "$name" | tr '[:upper:]' '[:lower:]')
    if [ ${#user} -gt 31 ]; then user=${user:0:20}-$(printf %s "$name" | sha256sum | cut -c1-10); fi
    dropin=$UNITS/mlc-ci-worker@$name.service.d
}

has_package() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_packages() {
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null || die "no apt-get: this is no Debian or Ubuntu; with --no-packages, bring the tools yourself"
    local missing=() package
    for package in "${PACKAGES[@]}"; do has_package "$package" || missing+=("$package"); done
    if [ -z "$(rustup_home)" ] && ! PATH=/usr/local/bin:/usr/bin:/bin command -v cargo >/dev/null; then missing+=(cargo); fi
    [ ${#missing[@]} -eq 0 ] || change "install ${missing[*]}" apt_install "${missing[@]}"
}

apt_install() {
    local log
    log=$(mktemp)
    if ! DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$log" 2>&1 ||
        ! DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends "$@" >>"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install $*"
    fi
    rm -f "$log"
}

rustup_home() { # the folder with cargo/ and rustup/ of a rustup that every user may run
    local place
    for place in "${RUSTUPS[@]}"; do
        if [ -x "$place/cargo/bin/cargo" ] && [ -d "$place/rustup" ]; then
            say "$place"
            return
        fi
    done
}

install_program() {
    local python stamp what
    python=$(command -v /usr/bin/python3 || true)
    [ -n "$dry" ] || [ -n "$python" ] || die "there is no /usr/bin/python3"
    if [ -n "$python" ]; then
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            die "Python 3.11 or newer is needed, here is $("$python" --version): Debian 12 or Ubuntu 24.04 have it"
    fi
    if [ -n "$wheel" ]; then
        [ -r "$wheel" ] || die "--wheel: $wheel cannot be read"
        what=$(sha256sum "$wheel" | cut -d' ' -f1)
    else
        [ -r "$source/pyproject.toml" ] || die "--source: $source is no checkout of mlc-ci"
        what=$(cd "$source" && find pyproject.toml master steps workers -type f ! -name '*.pyc' -print0 | sort -z |
            xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
    fi
    stamp="$("${python:-true}" --version) $what"
    [ "$(cat "$VENV/.stamp" 2>/dev/null)" = "$stamp" ] ||
        change "install mlc-ci-worker in $VENV" install_venv "$python" "$stamp"
}

install_venv() {
    local copy from=$wheel
    copy=$(mktemp -d)
    if [ -z "$from" ]; then # pip writes beside what it builds: not into somebody's checkout
        (cd "$source" && cp -r pyproject.toml master steps workers "$copy"/ && for file in README.md LICENSE; do
            [ ! -e "$file" ] || cp "$file" "$copy"/
        done)
        from=$copy
    fi
    umask 022
    [ -x "$VENV/bin/python" ] || "$1" -m venv "$VENV"
    rm -f "$VENV/.stamp"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --upgrade "mlc-ci[worker] @ file://$from"
    printf '%s\n' "$2" >"$VENV/.stamp"
    rm -rf "$copy"
}

make_user() {
    id "$user" >/dev/null 2>&1 || change "make the user $user" \
        useradd --system --user-group --no-create-home --home-dir "$folder" --shell /usr/sbin/nologin "$user"
}

make_folder() {
    [ -d "$HOMES" ] || change "make $HOMES" install -d -m 755 "$HOMES"
    [ -d "$folder" ] || change "make $folder" install -d -m 700 -o "$user" -g "$user" "$folder"
    if [ -n "$dry" ]; then
        say "would let $folder join by $bundle"
        return
    fi
    # as the worker's user: builds have written into this folder, and root must not follow what they left
    local said copy
    copy=$(mktemp)
    cat "$bundle" >"$copy"
    chown "$user" "$copy"
    said=$(cd / && as_user "$VENV/bin/mlc-ci-worker" join "$copy" "$folder") || die "$folder could not join"
    rm -f "$copy"
    case $said in
    *'(as it was)') ;;
    *) change "$said" true ;;
    esac
}

as_user() { setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --inh-caps=-all "$@"; }

# put FILE MODE: standard input, when it differs from what is there
put() {
    local text
    text=$(cat)
    [ "$text" = "$(cat "$1" 2>/dev/null)" ] || change "write $1" write_file "$1" "$2" "$text"
}

write_file() {
    install -d -m 755 "$(dirname "$1")"
    install -m "$2" /dev/stdin "$1" <<<"$3"
}

install_unit() {
    local rust
    put "$UNITS/$TEMPLATE" 644 <"$here/$TEMPLATE"
    put "$dropin/host.conf" 644 <<UNIT
[Service]
User=$user
Group=$user
MemoryMax=$memory
MemorySwapMax=0
TasksMax=$tasks
UNIT
    rust=$(rustup_home)
    put "$ETC/$name.env" 644 <<ENVIRONMENT
PATH=${rust:+$rust/cargo/bin:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
${rust:+RUSTUP_HOME=$rust/rustup}
ENVIRONMENT
}

start_worker() {
    local unit=mlc-ci-worker@$name.service
    if [ -z "$start" ] || [ ! -d /run/systemd/system ]; then
        if [ -d /run/systemd/system ]; then
            say "not started. Start it: systemctl enable --now $unit, or by hand:"
        else
            say "systemd does not run here. Start it by hand:"
        fi
        say "  setpriv --reuid $user --regid $user --clear-groups env -i \$(cat $ETC/$name.env) HOME=$folder $VENV/bin/mlc-ci-worker start $folder"
    elif [ "$changes" -gt 0 ]; then
        change "start $unit" restart "$unit"
    elif ! systemctl is-active --quiet "$unit" || ! systemctl is-enabled --quiet "$unit"; then
        change "start $unit" systemctl enable --quiet --now "$unit"
    fi
}

restart() {
    systemctl daemon-reload
    systemctl enable --quiet "$1"
    systemctl restart "$1" # a worker told to stop ends its builds: they are run again elsewhere, or here
}

remove() {
    if [ -d /run/systemd/system ]; then
        change "stop mlc-ci-worker@$name.service" systemctl disable --quiet --now "mlc-ci-worker@$name.service" || true
    fi
    [ ! -d "$dropin" ] || change "remove $dropin" rm -r "$dropin"
    [ ! -e "$ETC/$name.env" ] || change "remove $ETC/$name.env" rm "$ETC/$name.env"
    [ ! -d "$folder" ] || change "remove $folder" rm -rf "$folder"
    ! id "$user" >/dev/null 2>&1 || change "remove the user $user" userdel "$user"
    others=$(find "$HOMES" -mindepth 1 -maxdepth 1 ! -name "$name" 2>/dev/null || true)
    if [ -z "$others" ]; then
        for left in "$VENV" "$UNITS/$TEMPLATE" "$ETC" "$HOMES"; do
            [ ! -e "$left" ] || change "remove $left" rm -rf "$left"
        done
        say "no worker is left here; the packages stay"
    fi
    [ ! -d /run/systemd/system ] || [ -n "$dry" ] || systemctl daemon-reload
    if [ "$changes" -eq 0 ]; then say "worker $name: nothing to remove"; fi
}

main "$@"
