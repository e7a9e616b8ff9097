#!/usr/bin/env bash
# Stand-ins for the public base images, made of Debian packages, for machines without a registry.
# Not needed where `docker pull` works.
. "$(dirname "$0")/lib.sh"

import_debian() {
    debian_root "$LAB/base"
    local root="$LAB/base" bundle=/etc/ssl/certs/ca-certificates.crt
    rm -rf "$root"/usr/share/{doc,man,locale,info}/* "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin \
        "$root"/var/lib/apt/lists/*
    printf 'path-exclude /usr/share/%s/*\n' doc man locale >"$root/etc/dpkg/dpkg.cfg.d/slim"
    printf '%s\n' 'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' \
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };' >"$root/etc/apt/apt.conf.d/docker-clean"
    tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' \
        --change "ENV SSL_CERT_FILE=$bundle PIP_CERT=$bundle" - debian:bookworm-slim
}

from_debian() { # TAG, then the rest of a Dockerfile on standard input
    { echo 'FROM debian:bookworm-slim'; cat; } >"$LAB/Dockerfile.base"
    DOCKER_BUILDKIT=0 docker build -q --network host -t "$1" -f "$LAB/Dockerfile.base" "$LAB/empty"
}

start_dockerd
trap stop_dockerd EXIT
import_debian
from_debian python:3.11-slim-bookworm <<'END'
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv python3-pip ca-certificates \
 && rm -rf /var/lib/apt/lists/* && ln -s /usr/bin/python3 /usr/local/bin/python3
END
from_debian eclipse-mosquitto:2 <<'END'
RUN groupadd -g 1883 mosquitto && useradd -u 1883 -g 1883 mosquitto && apt-get update \
 && apt-get install -y --no-install-recommends mosquitto mosquitto-clients && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /mosquitto/config /mosquitto/data && chown -R 1883:1883 /mosquitto
VOLUME ["/mosquitto/data"]
CMD ["/usr/sbin/mosquitto", "-c", "/mosquitto/config/mosquitto.conf"]
END
from_debian prom/prometheus:v3.1.0 <<'END'
RUN apt-get update && apt-get install -y --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /prometheus && chown 65534:65534 /prometheus
USER 65534
VOLUME ["/prometheus"]
ENTRYPOINT ["/usr/bin/prometheus"]
END
docker image ls
say "bases are there"
