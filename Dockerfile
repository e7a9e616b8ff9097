# The agent as a container image for amd64 and arm64 gateways.
#
#   docker build -t edge-agent .                            the agent
#   docker build -t edge-agent:demo --target demo .         with the simulated plant
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -v ./agent.yaml:/etc/edge-agent/agent.yaml:ro -v edge-agent:/var/lib/edge-agent edge-agent
#
# Needs BuildKit (Docker 18.09 or later; the default since 23). docs/deploy.md says what was measured.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS source
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/* && \
    python3 -m venv /opt/edge-agent
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY edge_agent edge_agent
COPY adapters adapters
COPY models models
COPY deploy/image/assemble.py /assemble.py

FROM source AS build
ARG EXTRAS=mqtt,coap,modbus,otlp,notify,postgres,ota
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/edge-agent/bin/pip install --no-compile --constraint constraints.txt ".[${EXTRAS}]" && \
    python3 /assemble.py /rootfs /opt/edge-agent

FROM source AS build-demo
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/edge-agent/bin/pip install --no-compile --constraint constraints.txt ".[demo,otlp,notify,postgres,ota]" && \
    python3 /assemble.py /rootfs /opt/edge-agent

FROM scratch AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="edge-agent" \
      org.opencontainers.image.description="Anomaly detection for IoT gateways over MQTT, CoAP and Modbus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# ORT_DISABLE_TELEMETRY: later versions of ONNX Runtime report to their maker. One BLAS thread: a tick needs no more.
ENV PATH=/opt/edge-agent/bin \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    ORT_DISABLE_TELEMETRY=1 \
    OPENBLAS_NUM_THREADS=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EDGE_AGENT_LIVEZ=127.0.0.1:8470
STOPSIGNAL SIGTERM
# Alive is not ready: an agent whose broker is away must not be restarted. http.client ignores proxy variables.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import http.client as h, os; c = h.HTTPConnection(os.environ['EDGE_AGENT_LIVEZ'], timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["edge-agent"]

FROM base AS demo
COPY --from=build-demo /rootfs /
USER 10001:10001
WORKDIR /var/lib/edge-agent
VOLUME ["/var/lib/edge-agent"]
CMD ["demo", "--plain", "--port", "8470"]

FROM base AS agent
COPY --from=build /rootfs /
USER 10001:10001
WORKDIR /var/lib/edge-agent
VOLUME ["/var/lib/edge-agent"]
CMD ["run", "-c", "/etc/edge-agent/agent.yaml"]
