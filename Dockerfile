# The operator: locked packages and code, no package manager's leftovers, an ordinary user, nothing to write.
# `make pin-images` writes the digest of the base image here.
ARG PYTHON_IMAGE=python:3.13-slim
FROM ${PYTHON_IMAGE} AS build
ENV PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
# uv's wheels for x86-64 and 64-bit ARM.
RUN echo \
    uv==0.13.9 \
    --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19 \
    --hash=sha256:5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe \
    >/tmp/uv.txt \
    && pip install --no-cache-dir --require-hashes --requirement /tmp/uv.txt
WORKDIR /src
COPY pyproject.toml uv.lock ./
RUN uv export --frozen --no-dev --no-emit-project --output-file requirements.txt --quiet \
    && uv pip install --target /opt/headroom/packages --only-binary :all: --no-cache --require-hashes \
        --requirement requirements.txt \
    && rm -rf /opt/headroom/packages/bin
COPY operator/headroom /opt/headroom/code/headroom
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/headroom

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/headroom /opt/headroom
ENV PYTHONPATH=/opt/headroom/code:/opt/headroom/packages PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OPENSSL_CONF=/opt/headroom/code/headroom/adapters/postgres/wire/openssl.cnf
USER 65532:65532
ENTRYPOINT ["python3", "-m", "headroom"]
