# The queue workers and clients of the demo and the tests, for kind.
ARG PYTHON_IMAGE=python:3.13-slim
FROM ${PYTHON_IMAGE}
ENV PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml uv.lock ./
# uv's wheels for x86-64 and 64-bit ARM.
RUN echo \
    uv==0.13.9 \
    --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19 \
    --hash=sha256:5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe \
    >/tmp/uv.txt \
    && pip install --no-cache-dir --require-hashes --requirement /tmp/uv.txt \
    && uv export --frozen --all-groups --no-emit-project --no-hashes --output-file locked.txt --quiet \
    && uv pip install --target /opt/headroom/packages --no-cache --constraint locked.txt \
        procrastinate "psycopg[binary,pool]"
COPY e2e/apps /app
ENV PYTHONPATH=/app:/opt/headroom/packages PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 65532:65532
CMD ["python3"]
