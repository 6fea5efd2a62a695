/* The plain C interface of the CPU engine; flowkit/tvl1/cpu.py is its only caller. */
#ifndef FLOWKIT_TVL1_ABI_H
#define FLOWKIT_TVL1_ABI_H

#include <stdint.h>

/* All else is hidden: another library in the process may have names of its own like ours. */
#pragma GCC visibility push(default)

#ifdef __cplusplus
extern "C" {
#endif

/* Raised by one whenever a struct or a function below changes. */
#define FLOWKIT_TVL1_ABI_VERSION 3

enum FlowkitStatus {
  FLOWKIT_OK = 0,
  FLOWKIT_OUT_OF_MEMORY = 1,
  FLOWKIT_INVALID_ARGUMENT = 2,
  FLOWKIT_TOO_LARGE = 3
};

enum FlowkitPyramid { FLOWKIT_RESIZE = 0, FLOWKIT_PYRDOWN = 1, FLOWKIT_GAUSSIAN = 2 };
enum FlowkitBorder { FLOWKIT_CLAMP = 0, FLOWKIT_OFF = 1 };
enum FlowkitDual { FLOWKIT_SEMI_IMPLICIT = 0, FLOWKIT_PROJECTED = 1 };
enum FlowkitDualStart { FLOWKIT_ZERO = 0, FLOWKIT_COARSER = 1 };
enum FlowkitFilterAfter { FLOWKIT_AFTER_WARP = 0, FLOWKIT_AFTER_LEVEL = 1 };
enum FlowkitDtype { FLOWKIT_UINT8 = 0, FLOWKIT_FLOAT32 = 1 };

/* Field for field flowkit.tvl1.params.TVL1Params, which has validated every value. */
typedef struct FlowkitParams {
  double tau, lambda, theta, scale_step, epsilon, bicubic_a, presmooth_sigma, warp_snap;
  double edge_alpha, edge_beta, block_epsilon;
  double weighted_median_spread, weighted_median_grey, weighted_median_px;
  int32_t nscales, pyramid, warps, iterations, check_every, median, median_every, border, normalize;
  int32_t check_first, gradient_taps, dual, dual_start, weighted_median, weighted_median_after;
} FlowkitParams;

/* Many pairs out of a stack of frames. */
typedef struct FlowkitBatch {
  const void* frames;   /* (frame_count, height, width), grey values in [0, 255], C order */
  const int32_t* pairs; /* (pair_count, 2) indices into frames */
  float* flow;          /* (pair_count, 2, height, width), written: u then v in px */
  int32_t* iterations;  /* (pair_count, levels, warps), written; coarsest level first; or NULL */
  int64_t frame_count, pair_count, height, width;
  int32_t dtype, threads;
  const char* isa; /* a name flowkit_tvl1_isa gives, or NULL: the best this machine has */
} FlowkitBatch;

int32_t flowkit_tvl1_abi_version(void);

/* Name of the index-th instruction set usable here, best first; NULL after the last. */
const char* flowkit_tvl1_isa(int32_t index);

/* Pyramid levels that frames of this size get; 0 if the size is not positive. */
int32_t flowkit_tvl1_levels(const FlowkitParams* params, int64_t height, int64_t width);

/* Solve every pair; returns a FlowkitStatus. Same bits for any number of threads. */
int32_t flowkit_tvl1_solve(const FlowkitParams* params, const FlowkitBatch* batch);

#ifdef __cplusplus
}
#endif

#pragma GCC visibility pop

#endif
