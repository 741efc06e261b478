"""What runs on the GPU: the text of the kernels, and how they are compiled and started.

Windows over one and two axes are windows over three of which the first have size 1. Every
entry of a result is made by one thread, in one order, so that there are no atomic additions
and the bits are the same on every run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fconv.arrays import Array, xp_of
from fconv.conv.geometry import Windows

__all__ = ["SOURCE", "TYPES", "launch", "start"]

TYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_THREADS = 256
_MOST_BLOCKS = 1 << 20

SOURCE = r"""
typedef NUMBER T;  // not a macro of that name: NVRTC's own headers have templates of a T

// C channels of D x H x W come in, OD x OH x OW go out; kernels of
// KD x KH x KW, strides S, zeros before P, dilation E.
#define SIZES int C, int D, int H, int W, int OD, int OH, int OW, int KD, int KH, int KW, \
              int SD, int SH, int SW, int PD, int PH, int PW, int ED, int EH, int EW
#define EACH(i, count) \
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < count; \
         i += (long long)blockDim.x * gridDim.x)

// Take the last axis, of size n, off the number of an entry.
__device__ inline int last(long long &i, int n) { int at = (int)(i % n); i /= n; return at; }

// The window position whose entry k lies at x, or -1.
__device__ inline int window_at(int x, int k, int stride, int before, int dilation, int out) {
    int t = x + before - k * dilation;
    return t < 0 || t % stride || t / stride >= out ? -1 : t / stride;
}

// x (N, C, D, H, W) to columns (C, KD, KH, KW, N, OD, OH, OW).
extern "C" __global__ void im2col(long long count, const T *x, T *columns, int N, SIZES) {
    EACH(i, count) {
        long long r = i;
        int ow = last(r, OW), oh = last(r, OH), od = last(r, OD), n = last(r, N);
        int kw = last(r, KW), kh = last(r, KH), kd = last(r, KD), c = (int)r;
        int d = od * SD - PD + kd * ED, h = oh * SH - PH + kh * EH, w = ow * SW - PW + kw * EW;
        bool inside = d >= 0 && d < D && h >= 0 && h < H && w >= 0 && w < W;
        columns[i] = inside ? x[((((long long)n * C + c) * D + d) * H + h) * W + w] : T(0);
    }
}

// The adjoint: each entry of dx gathers what was taken from it.
extern "C" __global__ void col2im(long long count, const T *columns, T *dx, int N, SIZES) {
    EACH(i, count) {
        long long r = i;
        int w = last(r, W), h = last(r, H), d = last(r, D), c = last(r, C), n = (int)r;
        T sum = 0;
        for (int kd = 0; kd < KD; kd++) {
            int od = window_at(d, kd, SD, PD, ED, OD);
            if (od < 0) continue;
            for (int kh = 0; kh < KH; kh++) {
                int oh = window_at(h, kh, SH, PH, EH, OH);
                if (oh < 0) continue;
                for (int kw = 0; kw < KW; kw++) {
                    int ow = window_at(w, kw, SW, PW, EW, OW);
                    if (ow < 0) continue;
                    long long row = (((long long)c * KD + kd) * KH + kh) * KW + kw;
                    sum += columns[(((row * N + n) * OD + od) * OH + oh) * OW + ow];
                }
            }
        }
        dx[i] = sum;
    }
}

// One input channel a group: x (N, C, ...), weight (C * M, KD, KH, KW), y (N, C * M, ...).
extern "C" __global__ void depthwise(long long count, const T *x, const T *weight, T *y, int N, int M,
                                     SIZES) {
    EACH(i, count) {
        long long r = i;
        int ow = last(r, OW), oh = last(r, OH), od = last(r, OD), o = last(r, C * M), n = (int)r;
        const T *plane = x + ((long long)n * C + o / M) * D * H * W;
        const T *filter = weight + (long long)o * KD * KH * KW;
        T sum = 0;
        for (int kd = 0; kd < KD; kd++) {
            int d = od * SD - PD + kd * ED;
            if (d < 0 || d >= D) continue;
            for (int kh = 0; kh < KH; kh++) {
                int h = oh * SH - PH + kh * EH;
                if (h < 0 || h >= H) continue;
                for (int kw = 0; kw < KW; kw++) {
                    int w = ow * SW - PW + kw * EW;
                    if (w < 0 || w >= W) continue;
                    sum += plane[((long long)d * H + h) * W + w] * filter[(kd * KH + kh) * KW + kw];
                }
            }
        }
        y[i] = sum;
    }
}

extern "C" __global__ void depthwise_input(long long count, const T *g, const T *weight, T *dx, int N, int M,
                                           SIZES) {
    EACH(i, count) {
        long long r = i;
        int w = last(r, W), h = last(r, H), d = last(r, D), c = last(r, C), n = (int)r;
        T sum = 0;
        for (int o = c * M; o < (c + 1) * M; o++) {
            const T *plane = g + ((long long)n * C * M + o) * OD * OH * OW;
            const T *filter = weight + (long long)o * KD * KH * KW;
            for (int kd = 0; kd < KD; kd++) {
                int od = window_at(d, kd, SD, PD, ED, OD);
                if (od < 0) continue;
                for (int kh = 0; kh < KH; kh++) {
                    int oh = window_at(h, kh, SH, PH, EH, OH);
                    if (oh < 0) continue;
                    for (int kw = 0; kw < KW; kw++) {
                        int ow = window_at(w, kw, SW, PW, EW, OW);
                        if (ow < 0) continue;
                        sum += plane[((long long)od * OH + oh) * OW + ow] * filter[(kd * KH + kh) * KW + kw];
                    }
                }
            }
        }
        dx[i] = sum;
    }
}

// The gradient of the weight of each sample, (N, C * M, KD, KH, KW), still to be added up.
extern "C" __global__ void depthwise_weight(long long count, const T *g, const T *x, T *dw, int N, int M,
                                            SIZES) {
    EACH(i, count) {
        long long r = i;
        int kw = last(r, KW), kh = last(r, KH), kd = last(r, KD), o = last(r, C * M), n = (int)r;
        const T *outer = g + ((long long)n * C * M + o) * OD * OH * OW;
        const T *inner = x + ((long long)n * C + o / M) * D * H * W;
        T sum = 0;
        for (int od = 0; od < OD; od++) {
            int d = od * SD - PD + kd * ED;
            if (d < 0 || d >= D) continue;
            for (int oh = 0; oh < OH; oh++) {
                int h = oh * SH - PH + kh * EH;
                if (h < 0 || h >= H) continue;
                T row = 0;  // rows are added up by themselves, for smaller rounding errors
                for (int ow = 0; ow < OW; ow++) {
                    int w = ow * SW - PW + kw * EW;
                    if (w < 0 || w >= W) continue;
                    row += outer[((long long)od * OH + oh) * OW + ow] * inner[((long long)d * H + h) * W + w];
                }
                sum += row;
            }
        }
        dw[i] = sum;
    }
}

// The largest entry of each window, and its number in the window: the first of equals, or the last NaN.
extern "C" __global__ void max_pool(long long count, const T *x, T *y, int *numbers, int N, SIZES) {
    EACH(i, count) {
        long long r = i;
        int ow = last(r, OW), oh = last(r, OH), od = last(r, OD);
        const T *plane = x + r * D * H * W;  // r: sample and channel
        T zero = 0, best = -1 / zero;  // what a window wholly outside has
        int found = -1;
        for (int k = 0; k < KD * KH * KW; k++) {
            int d = od * SD - PD + k / (KH * KW) * ED, h = oh * SH - PH + k / KW % KH * EH;
            int w = ow * SW - PW + k % KW * EW;
            if (d < 0 || d >= D || h < 0 || h >= H || w < 0 || w >= W) continue;
            T v = plane[((long long)d * H + h) * W + w];
            if (found < 0 || v > best || v != v) { best = v; found = k; }
        }
        y[i] = best;
        numbers[i] = found < 0 ? 0 : found;
    }
}

extern "C" __global__ void max_pool_input(long long count, const T *g, const int *numbers, T *dx, int N,
                                          SIZES) {
    EACH(i, count) {
        long long r = i;
        int w = last(r, W), h = last(r, H), d = last(r, D);
        long long plane = r * OD * OH * OW;
        T sum = 0;
        for (int k = 0; k < KD * KH * KW; k++) {
            int od = window_at(d, k / (KH * KW), SD, PD, ED, OD);
            int oh = window_at(h, k / KW % KH, SH, PH, EH, OH);
            int ow = window_at(w, k % KW, SW, PW, EW, OW);
            if (od < 0 || oh < 0 || ow < 0) continue;
            long long at = plane + ((long long)od * OH + oh) * OW + ow;
            if (numbers[at] == k) sum += g[at];
        }
        dx[i] = sum;
    }
}

// Numbers of each channel of (N, C, P): the sum of u, and of u times v, each less its channel's number.
// S threads share a channel, and neighbours among them take neighbouring entries.
extern "C" __global__ void channel_sums(
    long long count, const T *u, const T *v, const T *lower_u, const T *lower_v, double *sums,
    int N, int C, int P, int S
) {
    EACH(i, count) {
        long long r = i;
        int t = last(r, S), c = (int)r;
        double plain = 0, product = 0;
        for (long long m = t; m < (long long)N * P; m += S) {
            long long at = (m / P * C + c) * P + m % P;
            double a = (double)u[at] - (double)lower_u[c], b = (double)v[at] - (double)lower_v[c];
            plain += a;
            product += a * b;
        }
        sums[i] = plain;
        sums[count + i] = product;
    }
}

extern "C" __global__ void by_channel(
    long long count, const T *x, const T *lower, const T *by, const T *to, T *y, int C, int P
) {
    EACH(i, count) {
        int c = (int)(i / P % C);
        y[i] = (x[i] - lower[c]) * by[c] + to[c];
    }
}

extern "C" __global__ void by_channel_of_two(
    long long count, const T *x, const T *lower, const T *by, const T *to, const T *g, const T *factor, T *y,
    int C, int P
) {
    EACH(i, count) {
        int c = (int)(i / P % C);
        y[i] = (x[i] - lower[c]) * by[c] + to[c] + g[i] * factor[c];
    }
}
"""


@lru_cache(maxsize=8)
def _module(cupy: Any, dtype: np.dtype[Any]) -> Any:
    return cupy.RawModule(code=SOURCE, options=(f"-DNUMBER={TYPES[dtype]}",))


def start(name: str, *arrays: Array, count: int, numbers: tuple[int, ...], windows: Windows) -> None:
    """Run a kernel on the current stream: a thread for each of `count` entries, up to a limit.

    Parameters
    ----------
    name : str
        Of the kernel.
    *arrays : array
        What it reads and then what it writes, C-contiguous; the first's dtype is the kernel's.
    count : int
        Entries that it makes.
    numbers : tuple of int
        What stands before the sizes of the windows, channels last.
    windows : Windows
        The windows.
    """
    missing, sizes = 3 - windows.ndim, []
    for ahead, axes in (
        (1, windows.in_size), (1, windows.out_size), (1, windows.kernel), (1, windows.stride),
        (0, tuple(lo for lo, _ in windows.padding)), (1, windows.dilation),
    ):  # fmt: skip
        sizes += [*(ahead,) * missing, *axes]
    launch(name, *arrays, count=count, numbers=(*numbers, *sizes))


def launch(name: str, *arrays: Array, count: int, numbers: tuple[int, ...]) -> None:
    """Run a kernel: `start`, for one that knows nothing of windows."""
    first = arrays[0]
    kernel = _module(xp_of(first), first.dtype).get_function(name)
    arguments = (np.int64(count), *arrays, *map(np.int32, numbers))
    kernel((min(-(-count // _THREADS), _MOST_BLOCKS),), (_THREADS,), arguments)
