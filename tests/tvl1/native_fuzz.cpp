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

// The kernels alone, on flows that no solver would reach.
void run_kernels(Random& random) {
  using flowkit::Plane;
  const int width = between(random, 1, 70), height = between(random, 1, 20);
  std::vector<float> pixels(static_cast<size_t>(width) * height);
  for (float& pixel : pixels) pixel = grey(random, Frames::kNoise);
  FlowkitParams params{};
  params.nscales = 1;
  std::vector<Plane> image;
  build_pyramid({pixels.data(), FLOWKIT_FLOAT32, {width, height}}, {}, params, image);
  for (int index = 0; const auto* kernels = flowkit::usable_kernels(index); ++index) {
    flowkit::Fields fields;
    Plane filtered, columns;
    for (Plane* plane : {&fields.u1, &fields.u2, &fields.q11, &fields.q12, &fields.q21, &fields.q22,
                         &fields.a, &fields.b, &fields.c, &fields.limit, &filtered}) {
      plane->reshape(width, height);
      plane->clear();
    }
    columns.reshape(width, 5);
    fields.tau = .25f;
    fields.taut = .8f;
    std::normal_distribution<float> motion(0, static_cast<float>(between(random, 1, 200)));
    for (Plane* u : {&fields.u1, &fields.u2}) {
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
          u->row(y)[x] = between(random, 0, 9) ? motion(random) : wild_float(random);
        }
      }
    }
    kernels->linearise(image[0], image[0], fields, {-.5f, .045f, between(random, 0, 1) == 1});
    kernels->median5(fields.u1, filtered, columns);
    kernels->iterate(fields, between(random, 1, 30), between(random, 0, 1) == 1);
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
    run_kernels(random);
  }
  std::printf("%d rounds, %s\n", rounds, sound ? "all sound" : "some not sound");
  return sound ? 0 : 1;
}
