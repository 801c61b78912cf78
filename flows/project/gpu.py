"""Whether this machine has a GPU to train on, asked of the driver: importing torch to find out takes seconds."""

import ctypes


def num_gpus() -> int:
    """How many GPUs NVIDIA's driver offers to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    # https://docs.nvidia.com/cuda/cuda-driver-api: both return 0 when they succeed.
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
