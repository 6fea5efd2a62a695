// Warp and linearise one pixel (twin: reference.steps.linearise): bicubic I1 and its centred
// differences at x + u.
#pragma once

#include "platform.cuh"

namespace flowkit {

struct WarpOptions {
  float bicubic_a;  // Keys' parameter
  float l_t;        // lambda * theta
  int clamp;        // clamp positions to the frame; otherwise no data term outside it
};

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

// Along one axis, the six neighbours that an image and its centred difference are weighed from.
constexpr int kNeighbours = 6;
struct AxisWeights {
  int first;  // position of the first one, in the frame with all others
  float value[kNeighbours], difference[kNeighbours];
};

// Weights at a position of a line of at least six pixels. A tap outside takes what the image, or its
// difference, has at the edge; the difference at the edge is one-sided.
FLOWKIT_DEVICE AxisWeights axis_weights(float position, int side, float keys_a) {
  const float at = clamp_position(position, side), low = floorf(at);
  const int left = (int)low;
  float w[4];
  keys_weights(at - low, keys_a, w);
  AxisWeights axis;
  axis.first = min(max(left - 2, 0), side - kNeighbours);
  if (axis.first == left - 2) {
    axis.value[0] = axis.value[5] = 0.f;
    FLOWKIT_UNROLL for (int c = 0; c < 4; ++c) axis.value[c + 1] = w[c];
  } else {
    FLOWKIT_UNROLL for (int k = 0; k < kNeighbours; ++k) {
      axis.value[k] = 0.f;
      FLOWKIT_UNROLL for (int c = 0; c < 4; ++c) {
        const bool here = clamp_index(left - 1 + c, side) == axis.first + k;
        axis.value[k] += here ? w[c] : 0.f;
      }
    }
  }
  FLOWKIT_UNROLL for (int k = 0; k < kNeighbours; ++k) {
    const float before = axis.value[k > 0 ? k - 1 : 0], after = axis.value[k < 5 ? k + 1 : 5];
    axis.difference[k] = k == 0 ? -before - after : k == 5 ? before + after : before - after;
  }
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

// The same of a frame less than six pixels wide or high.
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
    const float* const line = I1 + row * width;
    const float* const above = I1 + clamp_index(row - 1, height) * width;
    const float* const below = I1 + clamp_index(row + 1, height) * width;
    float weight = 0.f;
    FLOWKIT_UNROLL for (int k = 0; k < 16; ++k) weight = k == tap ? wy[k / 4] * wx[k % 4] : weight;
    s.I += weight * line[column];
    s.Ix += weight * (line[clamp_index(column + 1, width)] - line[clamp_index(column - 1, width)]);
    s.Iy += weight * (below[column] - above[column]);
  }
  return s;
}

// The data term of pixel (x, y) as core.cuh wants it; rho_c = I1w - I1wx u1 - I1wy u2 - I0.
FLOWKIT_DEVICE float4 linearise_pixel(const float* __restrict__ I0, const float* __restrict__ I1,
                                      int width, int height, int x, int y, float2 u,
                                      const WarpOptions& options) {
  float4 data = {0.f, 0.f, 0.f, 0.f};
  const float at_x = x + u.x, at_y = y + u.y, first = I0[y * width + x];
  const bool in_frame = at_x >= 0.f && at_x <= width - 1.f && at_y >= 0.f && at_y <= height - 1.f;
  if (!options.clamp && !in_frame) return data;
  const bool tiny = min(width, height) < kNeighbours;
  Sample s = tiny ? sample_of_tiny(I1, width, height, at_x, at_y, options.bicubic_a)
                  : sample_bicubic(I1, width, height, at_x, at_y, options.bicubic_a);
  s.Ix *= 0.5f;
  s.Iy *= 0.5f;
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
