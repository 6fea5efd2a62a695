// The arithmetic of one TV-L1 iteration on a patch of pixels in registers: shared by the tile and
// the cluster solver.
//
// A thread holds kRows x kColumns pixels; the lanes of a warp lie side by side, so that one warp
// spans 32 * kColumns columns, and warps lie below one another. Columns are exchanged by shuffles,
// rows by the caller at `above` and `below`.
//
// The dual variable is stored as q = theta * p: its divergence then adds straight into u. The
// linearised residual rho = rho_c + grad . u (twin: reference.steps.DataTerm) is stored divided by
// |grad|, a float4 a pixel: x = I1wx / |grad|, y = I1wy / |grad|, z = rho_c / |grad| and
// w = lambda theta |grad|, all zero where there is no data term. With w < 0 the pixel keeps u and q.
//
// Compiled with FLOWKIT_PROJECTED: the dual step is projected, not semi-implicit; and with
// FLOWKIT_WEIGHTED: to a bound of each pixel's own.
#pragma once

#include "blocks.cuh"
#include "platform.cuh"

#ifndef FLOWKIT_PROJECTED
#define FLOWKIT_PROJECTED 0
#endif
#ifndef FLOWKIT_WEIGHTED
#define FLOWKIT_WEIGHTED 0
#endif

namespace flowkit {

constexpr bool kProjected = FLOWKIT_PROJECTED, kWeighted = FLOWKIT_WEIGHTED;
static_assert(kProjected || !kWeighted, "the semi-implicit step has no bound");

template <int kRowCount, int kColumnCount>
struct Patch {
  static constexpr int kRows = kRowCount, kColumns = kColumnCount;
  float u1[kRows][kColumns], u2[kRows][kColumns];
  float q11[kRows][kColumns], q12[kRows][kColumns];
  float q21[kRows][kColumns], q22[kRows][kColumns];
};

// Of the dual iteration: tau; tau / theta, of the semi-implicit step; theta, the largest |q| of the
// projected one without weights.
struct Steps {
  float tau, taut, theta;
};

// Columns of a patch's row whose change counts: [from, to), none if to <= from.
struct Counted {
  int from, to;
};

// v = the minimiser under the data term, then u = v + theta div p (Zach, Pock, Bischof 2007,
// propositions 3 and 1; twins: reference.steps.threshold_step, primal_step).
FLOWKIT_DEVICE float2 primal_pixel(float2 u, float4 data, float2 divergence) {
  const float rho = fmaf(data.x, u.x, fmaf(data.y, u.y, data.z));
  const float step = fminf(fmaxf(rho, -data.w), data.w);
  float2 result;
  result.x = fmaf(-step, data.x, u.x) + divergence.x;
  result.y = fmaf(-step, data.y, u.y) + divergence.y;
  return result;
}

// q' = (q + tau grad u) / (1 + taut |grad u|) for one component of u (Chambolle 2004, eq. 9; twin:
// reference.steps.dual_step).
FLOWKIT_DEVICE void dual_pixel(float& qx, float& qy, float gx, float gy, const Steps& steps) {
  const float length = square_root(fmaf(gx, gx, gy * gy));
  const float shrink = reciprocal(fmaf(steps.taut, length, 1.f));
  qx = fmaf(steps.tau, gx, qx) * shrink;
  qy = fmaf(steps.tau, gy, qy) * shrink;
}

// q' = r / max(1, |r| / bound) with r = q + tau grad u, for one component of u; bound = theta w
// (Chambolle 2005; twin: reference.steps.projected_dual_step). Where r is zero, the reciprocal is
// infinite, and q' is zero.
FLOWKIT_DEVICE void projected_dual_pixel(float& qx, float& qy, float gx, float gy, float bound,
                                         const Steps& steps) {
  const float x = fmaf(steps.tau, gx, qx), y = fmaf(steps.tau, gy, qy);
  const float shrink = fminf(bound * reciprocal_root(fmaf(x, x, y * y)), 1.f);
  qx = x * shrink;
  qy = y * shrink;
}

// The primal step of one row. `above` points to (q12, q22) of the row above the patch, column j at
// above[32 j]; `data` to the row's data term, column j at data[kDataStride j]. With `left_edge`
// this lane has the frame's first column, left of which q is zero (twin: divergence). Adds what the
// counted pixels changed to `change`, and to the changes of their blocks, if kMeasure.
template <bool kMeasure, int kDataStride, class P>
FLOWKIT_DEVICE void primal_row(P& patch, int row, const float2* above, const float4* data,
                               bool left_edge, Counted counted, float& change,
                               RowOfChanges of_blocks) {
  float left11 = __shfl_up_sync(kAllLanes, patch.q11[row][P::kColumns - 1], 1);
  float left21 = __shfl_up_sync(kAllLanes, patch.q21[row][P::kColumns - 1], 1);
  left11 = left_edge ? 0.f : left11;
  left21 = left_edge ? 0.f : left21;
  FLOWKIT_UNROLL for (int j = 0; j < P::kColumns; ++j) {
    const int higher = row > 0 ? row - 1 : 0;
    float2 up;
    if (row > 0) {
      up.x = patch.q12[higher][j];
      up.y = patch.q22[higher][j];
    } else {
      up = above[j * kWarpSize];
    }
    float2 u, divergence;
    u.x = patch.u1[row][j];
    u.y = patch.u2[row][j];
    divergence.x = (patch.q11[row][j] - left11) + (patch.q12[row][j] - up.x);
    divergence.y = (patch.q21[row][j] - left21) + (patch.q22[row][j] - up.y);
    left11 = patch.q11[row][j];
    left21 = patch.q21[row][j];
    const float4 term = data[j * kDataStride];
    const float2 next = keeps(term) ? u : primal_pixel(u, term, divergence);
    if constexpr (kMeasure) {
      const bool counts = j >= counted.from && j < counted.to;
      const float du1 = next.x - u.x, du2 = next.y - u.y, square = fmaf(du1, du1, du2 * du2);
      if (counts) change += square;
      of_blocks.add(j, square, counts, j + 1 == P::kColumns);
    }
    patch.u1[row][j] = next.x;
    patch.u2[row][j] = next.y;
  }
}

// The dual step of one row. `below` points to (u1, u2) of the row under the patch, column j at
// below[32 j]. `last_column` is the patch's column that is the frame's last, or none of its
// columns; there, and with `last_row`, the forward difference is zero (twin: forward_gradient).
// kWhole: only a patch's last column can be the frame's. If kWeighted, `bounds` points to the
// row's, column j at bounds[32 j]. `data` is that of primal_row.
template <bool kWhole, int kDataStride, class P>
FLOWKIT_DEVICE void dual_row(P& patch, int row, const float2* below, int last_column, bool last_row,
                             const Steps& steps, const float* bounds, const float4* data) {
  const float right1 = __shfl_down_sync(kAllLanes, patch.u1[row][0], 1);
  const float right2 = __shfl_down_sync(kAllLanes, patch.u2[row][0], 1);
  FLOWKIT_UNROLL for (int j = 0; j < P::kColumns; ++j) {
    const int next = j + 1 < P::kColumns ? j + 1 : j, lower = row + 1 < P::kRows ? row + 1 : row;
    float2 down;
    if (row + 1 < P::kRows) {
      down.x = patch.u1[lower][j];
      down.y = patch.u2[lower][j];
    } else {
      down = below[j * kWarpSize];
    }
    if (kSkipping && keeps(data[j * kDataStride])) continue;
    const float u1 = patch.u1[row][j], u2 = patch.u2[row][j];
    const bool no_x = (!kWhole || j + 1 == P::kColumns) && j == last_column;
    const float x1 = no_x ? 0.f : (j + 1 < P::kColumns ? patch.u1[row][next] : right1) - u1;
    const float x2 = no_x ? 0.f : (j + 1 < P::kColumns ? patch.u2[row][next] : right2) - u2;
    const float y1 = last_row ? 0.f : down.x - u1, y2 = last_row ? 0.f : down.y - u2;
    if constexpr (kProjected) {
      const float bound = kWeighted ? bounds[j * kWarpSize] : steps.theta;
      projected_dual_pixel(patch.q11[row][j], patch.q12[row][j], x1, y1, bound, steps);
      projected_dual_pixel(patch.q21[row][j], patch.q22[row][j], x2, y2, bound, steps);
    } else {
      dual_pixel(patch.q11[row][j], patch.q12[row][j], x1, y1, steps);
      dual_pixel(patch.q21[row][j], patch.q22[row][j], x2, y2, steps);
    }
  }
}

// Sum over the lanes of a warp, in one order whatever the schedule; every lane gets it.
FLOWKIT_DEVICE float sum_over_warp(float value) {
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, lanes);
  }
  return value;
}

}  // namespace flowkit
