# Two stages: one installs the locked packages by hash, the other holds only what runs. Not root, no compiler, no pip cache.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/touchpoint \
 && /opt/touchpoint/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY device_sim device_sim
COPY firmware_api firmware_api
COPY gateway gateway
COPY rules rules
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
 && /opt/touchpoint/bin/pip install --no-cache-dir --no-deps /tmp/wheel/*.whl \
 && /opt/touchpoint/bin/pip uninstall -y pip

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/touchpoint --create-home touchpoint
COPY --from=build /opt/touchpoint /opt/touchpoint
ENV PATH=/opt/touchpoint/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TOUCHPOINT_DATA_DIR=/var/lib/touchpoint \
    TOUCHPOINT_WEB__HOST=0.0.0.0 \
    TOUCHPOINT_WEB__PORT=8080 \
    TOUCHPOINT_LOG__FORMAT=json
USER touchpoint
WORKDIR /var/lib/touchpoint
VOLUME /var/lib/touchpoint
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['TOUCHPOINT_WEB__PORT'] + '/health/live', timeout=2)"]
ENTRYPOINT ["touchpoint"]
CMD ["run"]
