# Stands in for PostgreSQL's own image, where none can be pulled: Debian's server, the same user, variables and folder.
ARG BASE
FROM ${BASE}
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql --no-log-init postgres && \
    apt-get update && apt-get install -y --no-install-recommends postgresql-15 && rm -rf /var/lib/apt/lists/* && \
    rm -rf /var/lib/postgresql && install -d -o 999 -g 999 /var/lib/postgresql && \
    install -d -o 999 -g 999 -m 1777 /var/lib/postgresql/data
ENV PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data
COPY <<'SCRIPT' /usr/local/bin/entrypoint
#!/bin/bash
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --options="-c listen_addresses=''" start >/dev/null
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB" 2>/dev/null || true
    pg_ctl --wait --mode=fast stop >/dev/null
fi
exec postgres -c listen_addresses='*'
SCRIPT
RUN chmod 755 /usr/local/bin/entrypoint
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["/usr/local/bin/entrypoint"]
