#!/usr/bin/env bash
# What compose.yaml mounts, made where it is missing: settings, the database's password, and then, by the master's own
# image, the master's folder and database, a bundle for each shipped worker, and the authority that the proxy trusts.
# Running it again changes nothing that is there. Needs docker compose 2.24, and the images (docker compose build).
set -euo pipefail
umask 077
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

if [ -z "${COMPOSE_ENV_FILES:-}" ] && [ ! -f .env ]; then
    cp .env.example .env
    echo "made docker/.env: edit it, and run this again" >&2
    exit 1
fi
site=${MLC_CI_FOLDER:-$(sed -n 's/^MLC_CI_FOLDER=//p' "${COMPOSE_ENV_FILES:-.env}")}
site=${site:-./site}

# Nobody else on this host gets past the folder itself; what is below, the containers' users must be able to read.
mkdir -p "$site"
chmod 700 "$site"
mkdir -p "$site/settings" "$site/secrets" "$site/bundles"
chmod 755 "$site/settings" "$site/secrets" "$site/bundles"
if [ ! -f "$site/settings/settings.toml" ]; then
    install -m 644 settings.toml "$site/settings/settings.toml"
    echo "made $site/settings/settings.toml: edit it, and run this again" >&2
    exit 1
fi

# put FILE: it becomes what is read, whole or not at all.
put() {
    local draft
    draft=$(mktemp -p "$(dirname "$1")" .new.XXXXXX)
    cat >"$draft"
    [ -s "$draft" ] || { rm -f "$draft"; return 1; }
    chmod 644 "$draft"
    mv "$draft" "$1"
}

master() {
    docker compose run --rm -T --no-deps "$@"
}

if [ ! -s "$site/secrets/database" ]; then
    od -An -tx1 -N24 /dev/urandom | tr -d ' \n' | put "$site/secrets/database"
fi
docker compose up --detach --wait database
if [ -z "$(docker compose ps --quiet --status running master)" ]; then
    master master serve master --prepare-only
fi
for name in trusted untrusted; do
    if [ ! -s "$site/bundles/$name" ]; then
        master master worker add "$name" --master-host master --output - | put "$site/bundles/$name"
    fi
done
master --entrypoint cat master /var/lib/mlc-ci/master/tls/ca.pem | put "$site/authority.pem"
echo "ready: docker compose up --detach --wait" >&2
