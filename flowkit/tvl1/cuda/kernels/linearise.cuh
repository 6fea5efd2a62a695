// Warp and linearise one pixel (twin: reference.steps.linearise): bicubic I1 and its centred
// differences at x + u.
//
// Compiled with FLOWKIT_GRADIENT_TAPS: 3 or 5, those of a difference; FLOWKIT_WARP_SNAP: px, how
// near a whole pixel that is linearised at instead of u.
#pragma once

#include "platform.cuh"

#ifndef FLOWKIT_GRADIENT_TAPS
#define FLOWKIT_GRADIENT_TAPS 3
#endif
#ifndef FLOWKIT_WARP_SNAP
#define FLOWKIT_WARP_SNAP 0
#endif

namespace flowkit {

struct WarpOptions {
  float bicubic_a;  // Keys' parameter
  float l_t;        // lambda * theta
  int clamp;        // clamp positions to the frame; otherwise no data term outside it
};

// Neighbours on each side that a centred difference takes, and its unit: (-1, 0, 1) / 2, or
// (1, -8, 0, 8, -1) / 12 (twins: reference.steps.centered_gradient, five_tap_gradient).
constexpr int kReach = FLOWKIT_GRADIENT_TAPS / 2;
static_assert(kReach == 1 || kReach == 2, "FLOWKIT_GRADIENT_TAPS must be 3 or 5");
constexpr float kPerPx = kReach == 1 ? 0.5f : 1.f / 12.f;

constexpr float kSnap = (float)FLOWKIT_WARP_SNAP;

// The point to linearise at.
FLOWKIT_DEVICE float snapped(float u) {
  if constexpr (kSnap == 0.f) return u;
  const float whole = rintf(u);
  return fabsf(u - whole) < kSnap ? whole : u;
}

// I1, and its centred differences Ix, Iy, at one position.
struct Sample {
  float I, Ix, Iy;
};

// Below this |grad|^2 there is no data term. Where all pixels are equal, rounding makes gradients
// of some 1e-5 grey levels per px; they must not move anything.
constexpr float kFlat = 1e-8f;

FLOWKIT_DEVICE int clamp_index(int i, int side) { return i < 0 ? 0 : i < side ? i : side - 1; }

// From 2 px outside on all four taps are the edge; NaN ends there too, so that every conversion to
// int is defined (twin: reference.sampling.sample_bicubic).
FLOWKIT_DEVICE float clamp_position(float at, int side) {
  return fminf(fmaxf(at, -3.f), side + 2.f);
}

// Keys' cubic kernel for the taps -1, 0, 1, 2 (Keys 1981, eq. 4; twin:
// reference.sampling.keys_weights): exactly (0, 1, 0, 0) at 0.
FLOWKIT_DEVICE void keys_weights(float t, float a, float (&w)[4]) {
  const float square = t * t;
  w[0] = t * (a + t * (t * a - (a + a)));
  w[1] = 1.f + square * (t * (a + 2.f) - (a + 3.f));
  w[3] = square * (a - t * a);
  w[2] = ((1.f - w[0]) - w[1]) - w[3];
}

// Along one axis, the neighbours that an image and its centred difference are weighed from.
constexpr int kNeighbours = 4 + 2 * kReach;
struct AxisWeights {
  int first;  // position of the first one, in the frame with all others
  float value[kNeighbours], difference[kNeighbours];
};

// Weights of the difference, from those of the image. The first and the last neighbour are taken
// for the frame's edges, which are repeated: where they are not, they and those beside them weigh
// nothing.
FLOWKIT_DEVICE void weigh_difference(AxisWeights& axis) {
  constexpr int kLast = kNeighbours - 1;
  FLOWKIT_UNROLL for (int k = 0; k < kNeighbours; ++k) {
    if constexpr (kReach == 1) {
      const float before = axis.value[max(k - 1, 0)], after = axis.value[min(k + 1, kLast)];
      axis.difference[k] = k == 0 ? -before - after : k == kLast ? before + after : before - after;
    } else {
      axis.difference[k] = 0.f;
      FLOWKIT_UNROLL for (int i = 0; i < kNeighbours; ++i) {
        const int near = (min(i + 1, kLast) == k) - (max(i - 1, 0) == k);
        const int far = (min(i + 2, kLast) == k) - (max(i - 2, 0) == k);
        if (8 * near != far) {
          axis.difference[k] = fmaf(8.f * near - far, axis.value[i], axis.difference[k]);
        }
      }
    }
  }
}

// Weights at a position of a line of at least kNeighbours pixels. A tap outside takes what the
// image, or its difference, has at the edge.
FLOWKIT_DEVICE AxisWeights axis_weights(float position, int side, float keys_a) {
  const float at = clamp_position(position, side), low = floorf(at);
  const int left = (int)low;
  float w[4];
  keys_weights(at - low, keys_a, w);
  AxisWeights axis;
  axis.first = min(max(left - 1 - kReach, 0), side - kNeighbours);
  if (axis.first == left - 1 - kReach) {
    FLOWKIT_UNROLL for (int k = 0; k < kReach; ++k) {
      axis.value[k] = axis.value[kNeighbours - 1 - k] = 0.f;
    }
    FLOWKIT_UNROLL for (int c = 0; c < 4; ++c) axis.value[c + kReach] = w[c];
  } else {
    FLOWKIT_UNROLL for (int k = 0; k < kNeighbours; ++k) {
      axis.value[k] = 0.f;
      FLOWKIT_UNROLL for (int c = 0; c < 4; ++c) {
        const bool here = clamp_index(left - 1 + c, side) == axis.first + k;
        axis.value[k] += here ? w[c] : 0.f;
      }
    }
  }
  weigh_difference(axis);
  return axis;
}

FLOWKIT_DEVICE Sample sample_bicubic(const float* __restrict__ I1, int width, int height, float x,
                                     float y, float keys_a) {
  const AxisWeights across = axis_weights(x, width, keys_a), down = axis_weights(y, height, keys_a);
  const float* const corner = I1 + (down.first * width + across.first);
  Sample s = {0.f, 0.f, 0.f};
  FLOWKIT_UNROLL for (int r = 0; r < kNeighbours; ++r) {
    float value = 0.f, difference = 0.f;
    FLOWKIT_UNROLL for (int c = 0; c < kNeighbours; ++c) {
      const float pixel = corner[r * width + c];
      value = fmaf(across.value[c], pixel, value);
      difference = fmaf(across.difference[c], pixel, difference);
    }
    s.I = fmaf(down.value[r], value, s.I);
    s.Ix = fmaf(down.value[r], difference, s.Ix);
    s.Iy = fmaf(down.difference[r], value, s.Iy);
  }
  return s;
}

// The difference at one pixel of a line, its pixels `step` apart; the edges are repeated.
FLOWKIT_DEVICE float difference_at(const float* __restrict__ line, int at, int side, int step) {
  const float near =
      line[clamp_index(at + 1, side) * step] - line[clamp_index(at - 1, side) * step];
  if constexpr (kReach == 1) return near;
  return 8.f * near -
         (line[clamp_index(at + 2, side) * step] - line[clamp_index(at - 2, side) * step]);
}

// The same as sample_bicubic of a frame less than kNeighbours pixels wide or high.
FLOWKIT_DEVICE Sample sample_of_tiny(const float* __restrict__ I1, int width, int height, float x,
                                     float y, float keys_a) {
  const float at_x = clamp_position(x, width), at_y = clamp_position(y, height);
  float wx[4], wy[4];
  keys_weights(at_x - floorf(at_x), keys_a, wx);
  keys_weights(at_y - floorf(at_y), keys_a, wy);
  const int left = (int)floorf(at_x), top = (int)floorf(at_y);
  Sample s = {0.f, 0.f, 0.f};
  FLOWKIT_NO_UNROLL for (int tap = 0; tap < 16; ++tap) {
    const int column = clamp_index(left - 1 + tap % 4, width);
    const int row = clamp_index(top - 1 + tap / 4, height);
    float weight = 0.f;
    FLOWKIT_UNROLL for (int k = 0; k < 16; ++k) weight = k == tap ? wy[k / 4] * wx[k % 4] : weight;
    s.I += weight * I1[row * width + column];
    s.Ix += weight * difference_at(I1 + row * width, column, width, 1);
    s.Iy += weight * difference_at(I1 + column, row, height, width);
  }
  return s;
}

// The data term of pixel (x, y) as core.cuh wants it; rho_c = I1w - I1wx u1 - I1wy u2 - I0.
FLOWKIT_DEVICE float4 linearise_pixel(const float* __restrict__ I0, const float* __restrict__ I1,
                                      int width, int height, int x, int y, float2 flow,
                                      const WarpOptions& options) {
  const float2 u = {snapped(flow.x), snapped(flow.y)};
  float4 data = {0.f, 0.f, 0.f, 0.f};
  const float at_x = x + u.x, at_y = y + u.y, first = I0[y * width + x];
  const bool in_frame = at_x >= 0.f && at_x <= width - 1.f && at_y >= 0.f && at_y <= height - 1.f;
  if (!options.clamp && !in_frame) return data;
  const bool tiny = min(width, height) < kNeighbours;
  Sample s = tiny ? sample_of_tiny(I1, width, height, at_x, at_y, options.bicubic_a)
                  : sample_bicubic(I1, width, height, at_x, at_y, options.bicubic_a);
  s.Ix *= kPerPx;
  s.Iy *= kPerPx;
  const float square = fmaf(s.Ix, s.Ix, s.Iy * s.Iy);
  const float rho_c = ((s.I - s.Ix * u.x) - s.Iy * u.y) - first;
  const bool usable = square >= kFlat;
  const float inverse = usable ? reciprocal_root(square) : 0.f;
  data.x = s.Ix * inverse;
  data.y = s.Iy * inverse;
  data.z = rho_c * inverse;
  data.w = options.l_t * (square * inverse);
  return data;
}

}  // namespace flowkit
