// The kernels that are compiled once per instruction set, and the choice among them.
#pragma once

#include "blocks.hpp"
#include "plane.hpp"
#include "resample.hpp"

namespace flowkit {

// State of one pair at one pyramid level. All planes have one size and so one stride.
//
// The dual variable is stored as q = theta * p: its divergence then adds straight into u. The
// linearised residual rho = rho_c + grad . u (twin: reference.steps.DataTerm) is stored divided by
// |grad|: a = I1wx / |grad|, b = I1wy / |grad|, c = rho_c / |grad|, and limit = lambda theta
// |grad|, all zero where there is no data term.
struct Fields {
  Plane u1{0}, u2{1}, q11{2}, q12{3}, q21{4}, q22{5}, a{6}, b{7}, c{8}, limit{9};
  Plane I1x{15}, I1y{14};  // central differences of the image to be warped
  Plane most{10};          // theta * weight of the total variation, if the dual step is projected
  BlockView blocks;        // those that iterate
  bool projected = false;  // the dual step: projected to |q| <= most, or semi-implicit
  float tau = 0;           // step of the dual iteration
  float taut = 0;          // tau / theta
};

struct WarpOptions {
  float bicubic_a;  // Keys' parameter
  float l_t;        // lambda * theta
  float snap;       // linearise at whole pixels that are closer than this
  bool clamp;       // clamp positions to the frame; otherwise no data term outside it
};

// What a warp starts with: the images, and how they are warped by u.
struct Linearisation {
  const Plane &I0, &I1;
  WarpOptions options;
};

// Weight of the total variation, as the params have it.
struct EdgeOptions {
  float alpha, beta;
};

struct WeightedMedianOptions {
  int radius;      // 2 or 3, px
  float spread;    // filter only where u spreads over more than this, px
  float grey, px;  // where weights fall off
};

// The planes of a weighted median, all of one size but for `lines`.
struct WeightedMedian {
  Plane guide{11};  // the first frame, with margins that are like no pixel
  Plane result1{12}, result2{13};
  Plane lines;  // scratch rows
};

struct Kernels {
  const char* name;
  // Run `iterations` iterations; return sum |du|^2 of the last one if `measure`, else 0. Unless null,
  // `linearisation` sets a, b, c and limit first, each row just before it is needed.
  double (*iterate)(Fields& fields, int iterations, bool measure,
                    const Linearisation* linearisation);
  // Set the central differences of I1, with five taps or three.
  void (*differentiate)(const Plane& I1, Fields& fields, bool five_taps);
  // Warp I1 and its differences by u and set a, b, c, limit.
  void (*linearise)(const Linearisation& linearisation, Fields& fields);
  // Set fields.most from a level of the first frame: theta times the weight of the total variation.
  void (*weigh_edges)(const Plane& I0, Fields& fields, Plane& smooth, Plane& lines, float theta,
                      const EdgeOptions& options);
  // Weighted median of u, whose margins it overwrites, into result1 and result2.
  void (*weighted_median)(Plane& u1, Plane& u2, WeightedMedian& work,
                          const WeightedMedianOptions& options);
  // 5x5 median of `image`, whose side margins it overwrites, into `result`.
  void (*median5)(Plane& image, Plane& result, Plane& columns);
  // Planes through maps of two taps.
  InterpolatePlanes interpolate;
};

// One per instruction set, each in its own source file; null where the set is not compiled in.
const Kernels* baseline_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

// The index-th of the sets that this machine can run, best first; null after the last.
const Kernels* usable_kernels(int index);

// The set of that name, or the best one if `name` is null; null if it is not usable here.
const Kernels* find_kernels(const char* name);

}  // namespace flowkit
