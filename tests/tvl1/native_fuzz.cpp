// Random sizes, parameters, frames and flows through the CPU engine, for a build with sanitizers.
// Usage: native_fuzz SEED ROUNDS. Prints what it did; exits 1 on a wrong status or, where the
// frames are finite, on a flow that is not.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "abi.h"
#include "kernels.hpp"
#include "pyramid.hpp"

namespace {

using Random = std::mt19937;

int between(Random& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

float wild_float(Random& random) {
  const float limits[] = {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::max(),
                          -std::numeric_limits<float>::max(),
                          std::numeric_limits<float>::denorm_min(),
                          -0.f,
                          2147483648.f};
  return limits[between(random, 0, 7)];
}

enum class Frames { kNoise, kConstant, kSaturated, kWild };

float grey(Random& random, Frames kind) {
  switch (kind) {
    case Frames::kConstant:
      return 137;
    case Frames::kSaturated:
      return between(random, 0, 1) ? 255 : 0;
    case Frames::kWild:
      if (between(random, 0, 9) == 0) return wild_float(random);
      [[fallthrough]];
    default:
      return static_cast<float>(between(random, 0, 255));
  }
}

// What the published model has not, to the ends of the ranges that TVL1Params allows.
void set_extended_model(Random& random, FlowkitParams& params) {
  const double scales[] = {.01, 2, 7, 30, 1e6}, powers[] = {.5, .8, 4};
  params.check_first = between(random, 0, 4);
  params.warp_snap = between(random, 0, 5) * .1;
  params.gradient_taps = between(random, 0, 1) ? 5 : 3;
  params.dual = between(random, 0, 1);
  params.dual_start = between(random, 0, 1);
  if (params.dual == FLOWKIT_PROJECTED && between(random, 0, 1)) {
    params.edge_alpha = between(random, 0, 5) ? between(random, 1, 100) / 10.0 : 1000;
  }
  params.edge_beta = powers[between(random, 0, 2)];
  params.block_epsilon = between(random, 0, 4) / 64.0;
  const int sides[] = {0, 5, 7};
  params.weighted_median = sides[between(random, 0, 2)];
  params.weighted_median_after = between(random, 0, 1);
  params.weighted_median_spread = between(random, 0, 3) * .2;
  params.weighted_median_grey = scales[between(random, 0, 4)];
  params.weighted_median_px = scales[between(random, 0, 4)];
}

FlowkitParams random_params(Random& random) {
  FlowkitParams params{};
  params.tau = .25;
  params.lambda = between(random, 1, 40) / 20.0;
  params.theta = .3;
  params.pyramid = between(random, 0, 2);
  params.scale_step = params.pyramid == FLOWKIT_PYRDOWN ? .5 : between(random, 5, 95) / 100.0;
  params.epsilon = between(random, 0, 2) * .01;
  params.bicubic_a = -between(random, 0, 4) / 4.0;
  params.presmooth_sigma = between(random, 0, 2) * .4;
  params.nscales = between(random, 1, 6);
  params.warps = between(random, 1, 3);
  params.iterations = between(random, 1, 25);
  params.check_every = between(random, 1, 12);
  params.median = between(random, 0, 1) * 5;
  params.median_every = between(random, 1, 12);
  params.border = between(random, 0, 1);
  params.normalize = between(random, 0, 1);
  set_extended_model(random, params);
  return params;
}

template <typename Pixel>
bool solve(Random& random, Frames kind, FlowkitDtype dtype) {
  const bool long_side = between(random, 0, 7) == 0;
  const int width = between(random, 1, long_side ? 300 : 50);
  const int height = between(random, 1, long_side ? 4 : 50);
  const int frame_count = between(random, 1, 3), pair_count = between(random, 1, 3);
  // On the heap with exact sizes: the address sanitizer sees one element too many.
  std::vector<Pixel> frames(static_cast<size_t>(frame_count) * width * height);
  for (Pixel& pixel : frames) pixel = static_cast<Pixel>(grey(random, kind));
  std::vector<int32_t> pairs(2 * static_cast<size_t>(pair_count));
  for (int32_t& frame : pairs) frame = between(random, 0, frame_count - 1);
  std::vector<float> flow(2 * static_cast<size_t>(pair_count) * width * height);

  const FlowkitParams params = random_params(random);
  const int levels = flowkit_tvl1_levels(&params, height, width);
  std::vector<int32_t> iterations(static_cast<size_t>(pair_count) * levels * params.warps);
  int isa_count = 0;
  while (flowkit_tvl1_isa(isa_count) != nullptr) ++isa_count;
  const FlowkitBatch batch{frames.data(),
                           pairs.data(),
                           flow.data(),
                           between(random, 0, 1) ? iterations.data() : nullptr,
                           frame_count,
                           pair_count,
                           height,
                           width,
                           dtype,
                           between(random, 1, 3),
                           flowkit_tvl1_isa(between(random, 0, isa_count - 1))};
  const int status = flowkit_tvl1_solve(&params, &batch);
  bool sound = status == FLOWKIT_OK;
  if (kind != Frames::kWild) {
    for (float value : flow) sound = sound && std::isfinite(value);
  }
  if (!sound) std::printf("%dx%d %s status %d: not sound\n", width, height, batch.isa, status);
  return sound;
}

// The median of the kernels against sorting, with ties and without.
bool check_median(Random& random) {
  using flowkit::Plane;
  const int width = between(random, 1, 40), height = between(random, 1, 12);
  const int values = between(random, 0, 1) ? 4 : 100000;
  Plane image, result, columns;
  image.reshape(width, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      image.row(y)[x] = static_cast<float>(between(random, -values, values));
    }
  }
  bool sound = true;
  for (int index = 0; const auto* kernels = flowkit::usable_kernels(index); ++index) {
    result.reshape(width, height);
    columns.reshape(width, 5);
    kernels->median5(image, result, columns);
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        std::vector<float> window;
        for (int dy = -2; dy <= 2; ++dy) {
          for (int dx = -2; dx <= 2; ++dx) {
            window.push_back(
                image.row(std::clamp(y + dy, 0, height - 1))[std::clamp(x + dx, 0, width - 1)]);
          }
        }
        std::sort(window.begin(), window.end());
        sound = sound && result.row(y)[x] == window[12];
      }
    }
  }
  if (!sound) std::printf("%dx%d: a median is wrong\n", width, height);
  return sound;
}

// Set a plane to `value` of each pixel's position.
template <typename Value>
void set_pixels(flowkit::Plane& plane, Value value) {
  for (int y = 0; y < plane.height(); ++y) {
    for (int x = 0; x < plane.width(); ++x) plane.row(y)[x] = static_cast<float>(value(x, y));
  }
}

// A value of a window and what it weighs.
struct Weighted {
  float value;
  double weight;
};

std::vector<Weighted> window_of(const flowkit::Plane& u, const flowkit::Plane& guide, int x, int y,
                                const flowkit::WeightedMedianOptions& options) {
  std::vector<Weighted> window;
  for (int dy = -options.radius; dy <= options.radius; ++dy) {
    for (int dx = -options.radius; dx <= options.radius; ++dx) {
      if (y + dy < 0 || y + dy >= u.height() || x + dx < 0 || x + dx >= u.width()) continue;
      const double fall = (guide.row(y + dy)[x + dx] - guide.row(y)[x]) / double{options.grey};
      const double distance2 = (dx * dx + dy * dy) / (double{options.px} * options.px);
      window.push_back({u.row(y + dy)[x + dx], std::exp(-(fall * fall + distance2) / 2)});
    }
  }
  const auto less = [](const Weighted& a, const Weighted& b) { return a.value < b.value; };
  std::sort(window.begin(), window.end(), less);
  return window;
}

// Whether `median` is one of the window's values, and as near the least up to which the weights
// reach half their sum as halving its range finds it. Weights of single precision may reach half
// a value earlier or later.
bool is_weighted_median(float median, const std::vector<Weighted>& window, float spread) {
  const float range = window.back().value - window.front().value;
  const auto is_own = [&](const Weighted& one) { return one.value == median; };
  if (std::none_of(window.begin(), window.end(), is_own)) return false;
  double total = 0, half = 0;
  for (const Weighted& one : window) half += one.weight / 2;
  float least = window.back().value, most = least;
  for (size_t k = window.size(); k-- > 0;) {
    total = 0;
    for (size_t i = 0; i <= k; ++i) total += window[i].weight;
    if (total >= half * (1 - 1e-4)) least = window[k].value;
    if (total >= half * (1 + 1e-4)) most = window[k].value;
  }
  const float narrow = std::max(1.f / 128, range / 4000);
  return range <= spread * 1.0001f || (median >= least - narrow && median <= most + narrow);
}

// The weighted median of the kernels against sorting in double precision.
bool check_weighted_median(Random& random) {
  using flowkit::Plane;
  const int width = between(random, 1, 40), height = between(random, 1, 12);
  const float scales[] = {.01f, 2, 7, 30, 1e6f};
  const flowkit::WeightedMedianOptions options{
      between(random, 2, 3), static_cast<float>(between(random, 0, 1)) * .5f,
      scales[between(random, 0, 4)], scales[between(random, 0, 4)]};
  const int values = between(random, 0, 1) ? 4 : 100000;
  const float unit = static_cast<float>(between(random, 1, 100)) / static_cast<float>(values);
  Plane u[2];
  flowkit::WeightedMedian work;
  for (Plane* plane : {&u[0], &u[1], &work.guide, &work.result1, &work.result2}) {
    plane->reshape(width, height);
  }
  work.lines.reshape(width, 4);
  work.guide.fill(1e9f);
  set_pixels(work.guide, [&](int, int) {
    return between(random, 0, 3) * 5 + between(random, 0, 9) * .1;
  });
  for (Plane& plane : u) {
    plane.clear();
    set_pixels(plane, [&](int, int) {
      return unit * static_cast<float>(between(random, -values, values));
    });
  }
  bool sound = true;
  for (int index = 0; const auto* kernels = flowkit::usable_kernels(index); ++index) {
    kernels->weighted_median(u[0], u[1], work, options);
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const Plane* const results[] = {&work.result1, &work.result2};
        for (int k = 0; k < 2; ++k) {
          const auto window = window_of(u[k], work.guide, x, y, options);
          sound = sound && is_weighted_median(results[k]->row(y)[x], window, options.spread);
        }
      }
    }
  }
  if (!sound) {
    std::printf("%dx%d radius %d grey %g px %g: a weighted median is wrong\n", width, height,
                options.radius, options.grey, options.px);
  }
  return sound;
}

// Edge weights against their equation on a ramp, whose gradient the blur leaves as it is.
bool check_edge_weights(Random& random) {
  using flowkit::Plane;
  const int width = between(random, 1, 60), height = between(random, 1, 20);
  const float dx = static_cast<float>(between(random, 0, 40)) * .1f, theta = .3f;
  const float alpha = static_cast<float>(between(random, 1, 100)) * .1f;
  const float powers[] = {.5f, .8f, 4}, beta = powers[between(random, 0, 2)];
  bool sound = true;
  for (int index = 0; const auto* kernels = flowkit::usable_kernels(index); ++index) {
    flowkit::Fields fields;
    Plane image, smooth, lines;
    for (Plane* plane : {&image, &smooth, &fields.most}) plane->reshape(width, height);
    lines.reshape(width, 5);
    set_pixels(image, [&](int x, int) { return dx * static_cast<float>(x); });
    kernels->weigh_edges(image, fields, smooth, lines, theta, {alpha, beta});
    const double weight = std::exp(-alpha * std::pow(dx / 255, beta));
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const float most = fields.most.row(y)[x];
        sound = sound && most >= theta * .999e-3f && most <= theta * 1.0001f;
        const bool inside = x >= 4 && x + 4 < width;
        const double off = std::abs(most - theta * std::max(weight, 1e-3));
        sound = sound && (!inside || off < 1e-3 * theta);
      }
    }
  }
  if (!sound) {
    std::printf("%dx%d alpha %g beta %g: edge weights are wrong\n", width, height, alpha, beta);
  }
  return sound;
}

void filter_likeness(Random& random, const flowkit::Kernels& kernels, const flowkit::Plane& image,
                     flowkit::Fields& fields) {
  flowkit::WeightedMedian work;
  for (flowkit::Plane* plane : {&work.guide, &work.result1, &work.result2}) {
    plane->reshape(image.width(), image.height());
  }
  work.lines.reshape(image.width(), 4);
  work.guide.fill(1e9f);
  set_pixels(work.guide, [&](int x, int y) { return image.row(y)[x]; });
  kernels.weighted_median(fields.u1, fields.u2, work, {between(random, 2, 3), 0, 7, 3});
}

// The kernels alone, on flows that no solver would reach.
void run_kernels(Random& random) {
  using flowkit::Plane;
  const int width = between(random, 1, 70), height = between(random, 1, 20);
  std::vector<float> pixels(static_cast<size_t>(width) * height);
  for (float& pixel : pixels) pixel = grey(random, Frames::kNoise);
  FlowkitParams params{};
  params.nscales = 1;
  std::vector<Plane> image;
  build_pyramid({pixels.data(), FLOWKIT_FLOAT32, {width, height}}, {}, params, flowkit::usable_kernels(0)->interpolate,
                image);
  for (int index = 0; const auto* kernels = flowkit::usable_kernels(index); ++index) {
    flowkit::Fields fields;
    Plane filtered, columns;
    for (Plane* plane : {&fields.u1, &fields.u2, &fields.q11, &fields.q12, &fields.q21, &fields.q22,
                         &fields.a, &fields.b, &fields.c, &fields.limit, &fields.I1x, &fields.I1y,
                         &fields.most, &filtered}) {
      plane->reshape(width, height);
      plane->clear();
    }
    columns.reshape(width, 5);
    fields.tau = .25f;
    fields.taut = .8f;
    fields.projected = between(random, 0, 1) == 1;
    fields.most.fill(.3f);
    flowkit::Blocks blocks;
    blocks.start(fields.u1);
    fields.blocks = between(random, 0, 1) ? blocks.measured() : blocks.view();
    std::normal_distribution<float> motion(0, static_cast<float>(between(random, 1, 200)));
    for (Plane* u : {&fields.u1, &fields.u2}) {
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
          u->row(y)[x] = between(random, 0, 9) ? motion(random) : wild_float(random);
        }
      }
    }
    kernels->differentiate(image[0], fields, between(random, 0, 1) == 1);
    const flowkit::Linearisation linearisation{
        image[0], image[0], {-.5f, .045f, .1f, between(random, 0, 1) == 1}};
    const bool together = between(random, 0, 1) == 1;
    if (!together) kernels->linearise(linearisation, fields);
    kernels->median5(fields.u1, filtered, columns);
    kernels->iterate(fields, between(random, 1, 30), between(random, 0, 1) == 1,
                     together ? &linearisation : nullptr);
    filter_likeness(random, *kernels, image[0], fields);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  Random random(static_cast<unsigned>(std::atoi(argv[1])));
  const int rounds = std::atoi(argv[2]);
  bool sound = true;
  for (int round = 0; round < rounds; ++round) {
    const int kind = between(random, 0, 3);
    sound &= solve<float>(random, static_cast<Frames>(kind), FLOWKIT_FLOAT32);
    sound &= solve<uint8_t>(random, static_cast<Frames>(kind % 3), FLOWKIT_UINT8);
    sound &= check_median(random);
    sound &= check_weighted_median(random);
    sound &= check_edge_weights(random);
    run_kernels(random);
  }
  std::printf("%d rounds, %s\n", rounds, sound ? "all sound" : "some not sound");
  return sound ? 0 : 1;
}
