# The queue workers and clients of the demo and the tests, for kind.
FROM python:3.13-slim
ENV PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml uv.lock ./
RUN pip install --no-cache-dir uv \
    && uv export --frozen --all-groups --no-emit-project --no-hashes --output-file locked.txt --quiet \
    && uv pip install --target /opt/headroom/packages --no-cache --constraint locked.txt \
        procrastinate "psycopg[binary,pool]"
COPY e2e/apps /app
ENV PYTHONPATH=/app:/opt/headroom/packages PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 65532:65532
CMD ["python3"]
