// Blocks of 16x16 px that are still, and so iterate no more (twin: reference.steps.still_blocks).
//
// Compiled with FLOWKIT_SKIPPING: there are some.
#pragma once

#include "platform.cuh"

#ifndef FLOWKIT_SKIPPING
#define FLOWKIT_SKIPPING 0
#endif

namespace flowkit {

constexpr bool kSkipping = FLOWKIT_SKIPPING;
constexpr int kBlockSide = 16;  // px; tiles and clusters of any size see the same blocks
// Of a px^2. Sums of integers are the same in any order, and those of a block fit an int.
constexpr float kChangeUnits = 1 << 22;

// A data term whose limit is negative: the pixel keeps u and q.
FLOWKIT_DEVICE bool keeps(float4 term) { return kSkipping && term.w < 0.f; }

FLOWKIT_DEVICE int blocks_across(int side) { return (side + kBlockSide - 1) / kBlockSide; }

// Sum |du|^2 of each block of a pair in one warp; none if `changes` is null. `enough`: units a pixel
// that a still block changes at most.
struct BlockChanges {
  int* changes;
  int width, height;
  float enough;
};

// Those of one pair out of [pairs][blocks].
FLOWKIT_DEVICE BlockChanges changes_of_pair(int* changes, int64 pair, int width, int height,
                                            float enough) {
  const int64 blocks = (int64)blocks_across(width) * blocks_across(height);
  return {changes == nullptr ? nullptr : changes + pair * blocks, width, height, enough};
}

FLOWKIT_DEVICE bool is_still(const BlockChanges& blocks, int x, int y) {
  if (!kSkipping || blocks.changes == nullptr) return false;
  const int across = x / kBlockSide, down = y / kBlockSide;
  const int width = min(kBlockSide, blocks.width - across * kBlockSide);
  const int height = min(kBlockSide, blocks.height - down * kBlockSide);
  const int change = __ldcg(blocks.changes + down * blocks_across(blocks.width) + across);
  return (float)change <= blocks.enough * (float)(width * height);
}

// Sums a row's changes, column after column, and adds them block by block. More than 1 px^2 of a pixel
// is as good as that.
struct RowOfChanges {
  const BlockChanges& blocks;
  int x, y;  // of the row's first pixel
  int sum;

  FLOWKIT_DEVICE void add(int column, float square, bool counted, bool last) {
    if (!kSkipping || blocks.changes == nullptr) return;
    if (counted) sum += (int)(fminf(square, 1.f) * kChangeUnits);
    if (!last && (x + column + 1) % kBlockSide != 0) return;
    const int across = (x + column) / kBlockSide;
    if (sum > 0) {
      atomicAdd(blocks.changes + y / kBlockSide * blocks_across(blocks.width) + across, sum);
    }
    sum = 0;
  }
};

}  // namespace flowkit
