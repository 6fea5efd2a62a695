#include "solver.hpp"

#include <algorithm>
#include <utility>

#include "pyramid.hpp"

namespace flowkit {
namespace {

// Iterations from `done` to the next multiple of `period`.
int until_multiple(int done, int period) { return period - done % period; }

void filter_flow(const Kernels& kernels, Workspace& work) {
  for (Plane* u : {&work.fields.u1, &work.fields.u2}) {
    work.filtered.reshape(u->width(), u->height());
    kernels.median5(*u, work.filtered, work.columns);
    std::swap(*u, work.filtered);
  }
}

// Iterate one linearisation in blocks that end where something happens: a median, a test, the end
// (twin: reference.solver.solve_warp). Returns the iterations done.
int solve_warp(const FlowkitParams& params, const Kernels& kernels, Workspace& work) {
  const double area = static_cast<double>(work.fields.u1.width()) * work.fields.u1.height();
  const double enough = params.epsilon * params.epsilon * area;
  int done = 0;
  while (done < params.iterations) {
    if (params.median != 0 && done % params.median_every == 0) filter_flow(kernels, work);
    int block = std::min(params.iterations - done, until_multiple(done, params.check_every));
    if (params.median != 0) block = std::min(block, until_multiple(done, params.median_every));
    done += block;
    const bool test = params.epsilon > 0 && done % params.check_every == 0;
    const double change = kernels.iterate(work.fields, block, test);
    if (test && change <= enough) break;
  }
  return done;
}

void size_planes(const Plane& level, Workspace& work) {
  Fields& f = work.fields;
  for (Plane* plane : {&f.u1, &f.u2, &f.q11, &f.q12, &f.q21, &f.q22, &f.a, &f.b, &f.c, &f.limit}) {
    plane->reshape(level.width(), level.height());
  }
  work.columns.reshape(level.width(), 5);
}

// The dual variable starts at zero on every level; the row above it stays zero.
void clear_dual(Fields& fields) {
  for (Plane* q : {&fields.q11, &fields.q12, &fields.q21, &fields.q22}) q->clear();
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
  const WarpOptions options{static_cast<float>(params.bicubic_a),
                            static_cast<float>(params.lambda * params.theta),
                            params.border == FLOWKIT_CLAMP};
  Fields& fields = work.fields;
  fields.tau = static_cast<float>(params.tau);
  fields.taut = static_cast<float>(params.tau / params.theta);
  size_planes(pyramid0.front(), work);  // the largest level first: memory is taken once
  for (size_t k = pyramid0.size(); k-- > 0;) {
    std::swap(fields.u1, work.coarse1);
    std::swap(fields.u2, work.coarse2);
    size_planes(pyramid0[k], work);
    clear_dual(fields);
    if (k + 1 == pyramid0.size()) {
      fields.u1.clear();
      fields.u2.clear();
    } else {
      upsample_flow(work.coarse1, fields.u1, params);
      upsample_flow(work.coarse2, fields.u2, params);
    }
    for (int warp = 0; warp < params.warps; ++warp) {
      kernels.linearise(pyramid0[k], pyramid1[k], fields, options);
      const int done = solve_warp(params, kernels, work);
      if (iterations != nullptr) *iterations++ = done;
    }
  }
  copy_flow(fields.u1, flow);
  copy_flow(fields.u2, flow + static_cast<int64_t>(fields.u1.width()) * fields.u1.height());
}

}  // namespace flowkit
