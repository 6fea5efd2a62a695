#include "solver.hpp"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "pyramid.hpp"

namespace flowkit {
namespace {

// Iterations from `done` to the next multiple of `period`.
int until_multiple(int done, int period) { return period - done % period; }

// Whether the stopping rule is tested after so many iterations.
bool is_test_due(const FlowkitParams& params, int done) {
  return done == params.check_first || done % params.check_every == 0;
}

// Iterations from `done` to the next at which something happens: a median, a test, the end.
int next_block(const FlowkitParams& params, int done) {
  int block = std::min(params.iterations - done, until_multiple(done, params.check_every));
  if (params.median != 0) block = std::min(block, until_multiple(done, params.median_every));
  if (done < params.check_first) block = std::min(block, params.check_first - done);
  return block;
}

void filter_flow(const Kernels& kernels, Workspace& work) {
  for (Plane* u : {&work.fields.u1, &work.fields.u2}) {
    work.filtered.reshape(u->width(), u->height());
    kernels.median5(*u, work.filtered, work.columns);
    std::swap(*u, work.filtered);
  }
}

// Linearise and iterate (twin: reference.solver.solve_warp). Returns the iterations done. A median
// comes between the two, so that only without one rows are linearised as they are needed.
int solve_warp(const Linearisation& linearisation, const FlowkitParams& params,
               const Kernels& kernels, Workspace& work) {
  const double area = static_cast<double>(work.fields.u1.width()) * work.fields.u1.height();
  const double enough = params.epsilon * params.epsilon * area;
  const Linearisation* pending = params.median == 0 ? &linearisation : nullptr;
  work.fields.blocks = work.blocks.view();
  if (pending == nullptr) kernels.linearise(linearisation, work.fields);
  int done = 0;
  while (done < params.iterations) {
    if (params.median != 0 && done % params.median_every == 0) filter_flow(kernels, work);
    const int block = next_block(params, done);
    done += block;
    const bool test = params.epsilon > 0 && is_test_due(params, done);
    const bool test_blocks = test && params.block_epsilon > 0 && done == params.check_first;
    work.fields.blocks = test_blocks ? work.blocks.measured() : work.blocks.view();
    const double change = kernels.iterate(work.fields, block, test, pending);
    pending = nullptr;
    if (test && change <= enough) break;
    if (test_blocks && done < params.iterations) work.blocks.end_still(params.block_epsilon);
  }
  return done;
}

void size_planes(const Plane& level, const FlowkitParams& params, Workspace& work) {
  Fields& f = work.fields;
  WeightedMedian& m = work.weighted;
  const auto size = [&](std::initializer_list<Plane*> planes) {
    for (Plane* plane : planes) plane->reshape(level.width(), level.height());
  };
  size({&f.u1, &f.u2, &f.q11, &f.q12, &f.q21, &f.q22, &f.a, &f.b, &f.c, &f.limit});
  size({&f.I1x, &f.I1y});
  if (f.projected) size({&f.most, &work.filtered});
  if (params.weighted_median != 0) {
    size({&m.guide, &m.result1, &m.result2});
    m.lines.reshape(level.width(), 4);
  }
  work.columns.reshape(level.width(), 5);
}

void set_weights(const Plane& I0, const FlowkitParams& params, const Kernels& kernels,
                 Workspace& work) {
  if (!work.fields.projected) return;
  const float theta = static_cast<float>(params.theta);
  if (params.edge_alpha == 0) {
    work.fields.most.fill(theta);
    return;
  }
  const EdgeOptions options{static_cast<float>(params.edge_alpha),
                            static_cast<float>(params.edge_beta)};
  kernels.weigh_edges(I0, work.fields, work.filtered, work.columns, theta, options);
}

// The first frame, with margins so unlike any pixel that they weigh nothing.
void set_guide(const Plane& I0, const FlowkitParams& params, Plane& guide) {
  if (params.weighted_median == 0) return;
  guide.fill(1e9f);
  for (int y = 0; y < I0.height(); ++y) std::copy_n(I0.row(y), I0.width(), guide.row(y));
}

void filter_by_likeness(const FlowkitParams& params, const Kernels& kernels, Workspace& work) {
  const WeightedMedianOptions options{params.weighted_median / 2,
                                      static_cast<float>(params.weighted_median_spread),
                                      static_cast<float>(params.weighted_median_grey),
                                      static_cast<float>(params.weighted_median_px)};
  WeightedMedian& weighted = work.weighted;
  kernels.weighted_median(work.fields.u1, work.fields.u2, weighted, options);
  std::swap(work.fields.u1, weighted.result1);
  std::swap(work.fields.u2, weighted.result2);
}

// All warps of one level (twin: reference.solver.solve_level); `counts`, unless null, gets the
// iterations of each.
void solve_level(const Plane& I0, const Plane& I1, const FlowkitParams& params,
                 const Kernels& kernels, Workspace& work, int32_t* counts) {
  const Linearisation linearisation{I0,
                                    I1,
                                    {static_cast<float>(params.bicubic_a),
                                     static_cast<float>(params.lambda * params.theta),
                                     static_cast<float>(params.warp_snap),
                                     params.border == FLOWKIT_CLAMP}};
  const int first_test = params.check_first;
  const bool may_end = first_test < std::min(params.check_every, params.iterations);
  kernels.differentiate(I1, work.fields, params.gradient_taps == 5);
  set_weights(I0, params, kernels, work);
  set_guide(I0, params, work.weighted.guide);
  work.blocks.start(work.fields.u1);
  bool still = false;
  for (int warp = 0; warp < params.warps && !still; ++warp) {
    const int done = solve_warp(linearisation, params, kernels, work);
    if (counts != nullptr) counts[warp] = done;
    still = may_end && done == first_test;
    const bool last = still || warp + 1 == params.warps;
    const bool filter = last || params.weighted_median_after == FLOWKIT_AFTER_WARP;
    if (params.weighted_median != 0 && filter) filter_by_likeness(params, kernels, work);
  }
}

// Start a level: flow and dual variable come from the coarser one, if there is one. The dual
// variable's row above the first is zero, as the divergence needs it.
void start_level(const Plane& level, bool coarsest, const FlowkitParams& params,
                 const Kernels& kernels, Workspace& work) {
  Fields& f = work.fields;
  Plane* const flow[2] = {&f.u1, &f.u2};
  Plane* const dual[4] = {&f.q11, &f.q12, &f.q21, &f.q22};
  Plane* const coarse_flow[2] = {&work.coarse[0], &work.coarse[1]};
  Plane* const coarse_dual[4] = {&work.coarse[2], &work.coarse[3], &work.coarse[4], &work.coarse[5]};
  for (int k = 0; k < 2; ++k) std::swap(*flow[k], *coarse_flow[k]);
  for (int k = 0; k < 4; ++k) std::swap(*dual[k], *coarse_dual[k]);
  size_planes(level, params, work);
  const bool zero_dual = coarsest || params.dual_start == FLOWKIT_ZERO;
  for (Plane* q : dual) {
    if (zero_dual) {
      q->clear();
    } else {
      q->clear_row(-1);
    }
  }
  if (coarsest) {
    for (Plane* u : flow) u->clear();
    return;
  }
  const Plane& coarse = work.coarse[0];
  const Upsampling upsampling({coarse.width(), coarse.height()}, {level.width(), level.height()},
                              params, kernels.interpolate);
  upsampling.bring_flow(coarse_flow, flow);
  if (zero_dual) return;
  upsampling.bring_dual(coarse_dual, dual);
  const int last_column = level.width() - 1, last_row = level.height() - 1;
  for (Plane* across : {&f.q11, &f.q21}) {
    for (int y = 0; y <= last_row; ++y) across->row(y)[last_column] = 0;
  }
  for (Plane* down : {&f.q12, &f.q22}) std::fill_n(down->row(last_row), level.width(), 0.f);
}

void copy_flow(const Plane& u, float* flow) {
  for (int y = 0; y < u.height(); ++y) {
    std::copy_n(u.row(y), u.width(), flow + static_cast<int64_t>(y) * u.width());
  }
}

}  // namespace

void solve_pair(const std::vector<Plane>& pyramid0, const std::vector<Plane>& pyramid1,
                const FlowkitParams& params, const Kernels& kernels, Workspace& work, float* flow,
                int32_t* iterations) {
  Fields& fields = work.fields;
  fields.tau = static_cast<float>(params.tau);
  fields.taut = static_cast<float>(params.tau / params.theta);
  fields.projected = params.dual == FLOWKIT_PROJECTED;
  size_planes(pyramid0.front(), params, work);  // the largest level first: memory is taken once
  for (size_t k = pyramid0.size(); k-- > 0;) {
    start_level(pyramid0[k], k + 1 == pyramid0.size(), params, kernels, work);
    solve_level(pyramid0[k], pyramid1[k], params, kernels, work, iterations);
    if (iterations != nullptr) iterations += params.warps;
  }
  copy_flow(fields.u1, flow);
  copy_flow(fields.u2, flow + static_cast<int64_t>(fields.u1.width()) * fields.u1.height());
}

}  // namespace flowkit
