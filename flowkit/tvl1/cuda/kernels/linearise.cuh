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

FLOWKIT_DEVICE float weigh(const float (&w)[4], float a, float b, float c, float d) {
  return (w[0] * a + w[1] * b) + (w[2] * c + w[3] * d);
}

// All three images from a 6x6 footprint inside the frame, whose corners carry no weight; `corner`
// is its top left.
FLOWKIT_DEVICE Sample sample_inside(const float* __restrict__ corner, int width,
                                    const float (&wx)[4], const float (&wy)[4]) {
  Sample s = {0.f, 0.f, 0.f};
  float two_before = 0.f, before = 0.f;  // interpolated rows r - 2 and r - 1
  FLOWKIT_UNROLL for (int r = 0; r < 6; ++r) {
    const float* const row = corner + (int64)r * width;
    const float b = row[1], c = row[2], d = row[3], e = row[4];
    const float value = weigh(wx, b, c, d, e);
    if (r >= 1 && r <= 4) {
      const int tap = r >= 1 && r <= 4 ? r - 1 : 0;
      const float difference = weigh(wx, c - row[0], d - b, e - c, row[5] - d);
      s.I = fmaf(wy[tap], value, s.I);
      s.Ix = fmaf(wy[tap], difference, s.Ix);
    }
    if (r >= 2) {
      const int tap = r >= 2 ? r - 2 : 0;
      s.Iy = fmaf(wy[tap], value - two_before, s.Iy);
    }
    two_before = before;
    before = value;
  }
  return s;
}

// The same where a tap may lie outside: there each image takes the value of its own edge.
FLOWKIT_DEVICE Sample sample_at_border(const float* __restrict__ I1, int width, int height,
                                       int left, int top, const float (&wx)[4],
                                       const float (&wy)[4]) {
  Sample s = {0.f, 0.f, 0.f};
  for (int r = 0; r < 4; ++r) {
    const int y = clamp_index(top - 1 + r, height);
    const float* const row = I1 + (int64)y * width;
    const float* const above = I1 + (int64)clamp_index(y - 1, height) * width;
    const float* const below = I1 + (int64)clamp_index(y + 1, height) * width;
    for (int c = 0; c < 4; ++c) {
      const int x = clamp_index(left - 1 + c, width);
      const float weight = wy[r] * wx[c];
      s.I += weight * row[x];
      s.Ix += weight * (row[clamp_index(x + 1, width)] - row[clamp_index(x - 1, width)]);
      s.Iy += weight * (below[x] - above[x]);
    }
  }
  return s;
}

FLOWKIT_DEVICE Sample sample_bicubic(const float* __restrict__ I1, int width, int height, float x,
                                     float y, float keys_a) {
  const float at_x = clamp_position(x, width), at_y = clamp_position(y, height);
  const float floor_x = floorf(at_x), floor_y = floorf(at_y);
  float wx[4], wy[4];
  keys_weights(at_x - floor_x, keys_a, wx);
  keys_weights(at_y - floor_y, keys_a, wy);
  const int left = (int)floor_x, top = (int)floor_y;
  const bool inside = left >= 2 && left + 3 < width && top >= 2 && top + 3 < height;
  Sample s = inside ? sample_inside(I1 + (int64)(top - 2) * width + (left - 2), width, wx, wy)
                    : sample_at_border(I1, width, height, left, top, wx, wy);
  s.Ix *= 0.5f;
  s.Iy *= 0.5f;
  return s;
}

// The data term of pixel (x, y) as core.cuh wants it; rho_c = I1w - I1wx u1 - I1wy u2 - I0.
FLOWKIT_DEVICE float4 linearise_pixel(const float* __restrict__ I0, const float* __restrict__ I1,
                                      int width, int height, int x, int y, float2 u,
                                      const WarpOptions& options) {
  float4 data = {0.f, 0.f, 0.f, 0.f};
  const float at_x = x + u.x, at_y = y + u.y;
  const bool in_frame = at_x >= 0.f && at_x <= width - 1.f && at_y >= 0.f && at_y <= height - 1.f;
  if (!options.clamp && !in_frame) return data;
  const Sample s = sample_bicubic(I1, width, height, at_x, at_y, options.bicubic_a);
  const float square = fmaf(s.Ix, s.Ix, s.Iy * s.Iy);
  if (!(square >= kFlat)) return data;
  const float rho_c = ((s.I - s.Ix * u.x) - s.Iy * u.y) - I0[(int64)y * width + x];
  const float norm = sqrtf(square), inverse = 1.f / norm;
  data.x = s.Ix * inverse;
  data.y = s.Iy * inverse;
  data.z = rho_c * inverse;
  data.w = options.l_t * norm;
  return data;
}

}  // namespace flowkit
