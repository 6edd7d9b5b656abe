#!/usr/bin/env bash
# environments.sh FOLDER: a virtual environment for each peer, FOLDER/stardist (2 GB) and FOLDER/cellpose (6 GB, most of it
# the CUDA of PyTorch).
# No pretrained weights are downloaded: both are trained from random weights.
set -euo pipefail
folder=${1:?usage: environments.sh FOLDER}
python=${PYTHON:-python3.11}

make_environment() {
    "$python" -m venv "$folder/$1"
    "$folder/$1/bin/python" -m pip install -q --disable-pip-version-check "${@:2}"
}

make_environment stardist stardist==0.9.2 tensorflow-cpu==2.19.1 imagecodecs==2026.3.6
make_environment cellpose cellpose==3.1.1.3 imagecodecs==2026.3.6
