#include "blocks.hpp"

#include <algorithm>

namespace flowkit {

void Blocks::start(const Plane& level) {
  width_ = level.width();
  height_ = level.height();
  stride_ = level.stride();  // vectors are written whole
  across_ = (width_ + kBlockSide - 1) / kBlockSide;
  down_ = (height_ + kBlockSide - 1) / kBlockSide;
  iterates_.assign(static_cast<size_t>(across_) * down_, 1);
  set_runs();
}

BlockView Blocks::measured() {
  changes_.assign(static_cast<size_t>(stride_) * down_, 0);
  BlockView blocks = view();
  blocks.changes = changes_.data();
  return blocks;
}

BlockView Blocks::view() const { return {runs_.data(), nullptr, 2 * across_ + 1, stride_}; }

void Blocks::end_still(double epsilon) {
  for (int down = 0; down < down_; ++down) {
    for (int across = 0; across < across_; ++across) {
      unsigned char& iterates = iterates_[static_cast<size_t>(down) * across_ + across];
      if (iterates && !has_changed(across, down, epsilon)) iterates = 0;
    }
  }
  set_runs();
}

bool Blocks::has_changed(int across, int down, double epsilon) const {
  const int left = across * kBlockSide, top = down * kBlockSide;
  const int width = std::min(kBlockSide, width_ - left), height = std::min(kBlockSide, height_ - top);
  const int32_t* const columns = changes_.data() + down * stride_ + left;
  int32_t change = 0;
  for (int x = 0; x < width; ++x) change += columns[x];
  return change * static_cast<double>(kChangeUnit) > epsilon * epsilon * width * height;
}

void Blocks::set_runs() {
  runs_.resize(static_cast<size_t>(2 * across_ + 1) * down_);
  for (int down = 0; down < down_; ++down) {
    const unsigned char* const iterates = iterates_.data() + static_cast<size_t>(down) * across_;
    int* run = runs_.data() + static_cast<size_t>(2 * across_ + 1) * down;
    for (int across = 0; across < across_; ++across) {
      if (!iterates[across]) continue;
      if (across == 0 || !iterates[across - 1]) *run++ = across * kBlockSide;
      if (across + 1 == across_ || !iterates[across + 1]) {
        *run++ = std::min(width_, (across + 1) * kBlockSide);
      }
    }
    *run = -1;
  }
}

}  // namespace flowkit
