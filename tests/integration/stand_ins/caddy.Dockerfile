# Stands in for Caddy's own image, where none can be pulled: Debian's program, with the capability that theirs has.
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends caddy libcap2-bin wget && rm -rf /var/lib/apt/lists/* && \
    setcap cap_net_bind_service=+ep /usr/bin/caddy && mkdir -p /data /etc/caddy
