"""The kernels of convolution on the GPU."""

from __future__ import annotations

from fconv.engine.cuda.launch import WINDOWS

SOURCE = (
    WINDOWS
    + r"""
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

// The adjoint: each element of dx gathers what was taken from it.
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
"""
)
