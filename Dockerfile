# The operator: locked packages and code, no package manager's leftovers, an ordinary user, nothing to write.
FROM python:3.13-slim AS build
ENV PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
RUN pip install --no-cache-dir uv
WORKDIR /src
COPY pyproject.toml uv.lock ./
RUN uv export --frozen --no-dev --no-emit-project --output-file requirements.txt --quiet \
    && uv pip install --target /opt/headroom/packages --only-binary :all: --no-cache --requirement requirements.txt \
    && rm -rf /opt/headroom/packages/bin
COPY operator/headroom /opt/headroom/code/headroom
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/headroom

FROM python:3.13-slim
COPY --from=build /opt/headroom /opt/headroom
ENV PYTHONPATH=/opt/headroom/code:/opt/headroom/packages PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["python3", "-m", "headroom"]
