// Blocks of a level that are still, and so iterate no more.
#pragma once

#include <cstdint>
#include <vector>

#include "plane.hpp"

namespace flowkit {

constexpr int kBlockSide = 16;                  // px: whole vectors of every instruction set
constexpr float kChangeUnit = 1.f / (1 << 22);  // px^2, so that a block's sum fits an int32

// What kernels see of them. A row of blocks has runs of columns that iterate: begin, end, begin, ...,
// -1. `changes`, unless null, gets sum |du|^2 down each column of a row of blocks, in kChangeUnit: a
// sum of integers is the same in any order.
struct BlockView {
  const int* runs = nullptr;
  int32_t* changes = nullptr;
  ptrdiff_t runs_stride = 0, changes_stride = 0;

  const int* runs_of(ptrdiff_t y) const { return runs + y / kBlockSide * runs_stride; }
  int32_t* changes_of(ptrdiff_t y) const {
    return changes == nullptr ? nullptr : changes + y / kBlockSide * changes_stride;
  }
};

class Blocks {
 public:
  // All blocks of a level iterate.
  void start(const Plane& level);
  // The same blocks, with `changes` set to zero to be measured.
  BlockView measured();
  BlockView view() const;
  // Blocks that changed no more than sum |du|^2 <= epsilon^2 area, as measured, are still until the
  // next start (twin: reference.steps.still_blocks).
  void end_still(double epsilon);

 private:
  void set_runs();
  bool has_changed(int across, int down, double epsilon) const;

  int width_ = 0, height_ = 0, across_ = 0, down_ = 0;
  ptrdiff_t stride_ = 0;
  std::vector<unsigned char> iterates_;
  std::vector<int> runs_;
  std::vector<int32_t> changes_;
};

}  // namespace flowkit
