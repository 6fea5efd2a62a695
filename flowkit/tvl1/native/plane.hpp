// A float image with room around it, so that vectors may read and write past its edges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "arena.hpp"

namespace flowkit {

class Plane {
 public:
  Plane() = default;

  // Planes that one loop reads and writes together get different numbers: large planes all start at
  // the same offset within a page, and a load waits for every earlier store that is at its own
  // offset within some page (4 KiB aliasing).
  explicit Plane(int number) : shift_(number * kShift) {}

  Plane(Plane&&) = default;
  Plane& operator=(Plane&&) = default;

  // Floats left and right of each row: the widest vector (16), read one ahead, or the warp's
  // reach beyond a vector (4), rounded up to whole cache lines on both sides.
  static constexpr ptrdiff_t kSide = 32;
  // Rows above and below: the warp's widest footprint reaches 2 up and 3 down.
  static constexpr ptrdiff_t kMargin = 3;

  // Give the plane a size; what it holds then is undefined. Memory is kept when the new size fits
  // into it.
  void reshape(int width, int height) {
    width_ = width;
    height_ = height;
    stride_ = stride_of(width);
    const size_t count = float_count();
    if (count > capacity_) {
      memory_.reset();
      capacity_ = 0;
      memory_ = take_floats(count);
      capacity_ = count;
    }
  }

  // Set every float to zero, margins included.
  void clear() { std::memset(memory_.get(), 0, float_count() * sizeof(float)); }

  void clear_row(int y) { std::memset(row(y) - kSide, 0, stride_ * sizeof(float)); }

  // Set every float, margins included.
  void fill(float value) {
    float* const memory = memory_.get();
    for (size_t i = 0, count = float_count(); i < count; ++i) memory[i] = value;
  }

  // Let `radius` pixels on every side repeat the nearest pixel; at most kMargin.
  void repeat_edges(int radius) {
    for (int y = 0; y < height_; ++y) {
      float* const pixels = row(y);
      for (int k = 1; k <= radius; ++k) {
        pixels[-k] = pixels[0];
        pixels[width_ - 1 + k] = pixels[width_ - 1];
      }
    }
    const size_t bytes = static_cast<size_t>(width_ + 2 * radius) * sizeof(float);
    for (int k = 1; k <= radius; ++k) {
      std::memcpy(row(-k) - radius, row(0) - radius, bytes);
      std::memcpy(row(height_ - 1 + k) - radius, row(height_ - 1) - radius, bytes);
    }
  }

  // Row length in floats: whole cache lines, and no multiple of 128 bytes, so that the rows that
  // a wavefront works on do not fall into the same cache sets.
  static ptrdiff_t stride_of(int width) {
    const ptrdiff_t stride = (static_cast<ptrdiff_t>(width) + 15) / 16 * 16 + 2 * kSide;
    return stride % 32 == 0 ? stride + 16 : stride;
  }

  int width() const { return width_; }
  int height() const { return height_; }
  ptrdiff_t stride() const { return stride_; }
  float* row(ptrdiff_t y) { return memory_.get() + offset_of(y); }
  const float* row(ptrdiff_t y) const { return memory_.get() + offset_of(y); }

 private:
  static constexpr ptrdiff_t kShift = 64;  // floats; sixteen of them fill one page

  size_t float_count() const {
    return static_cast<size_t>(stride_ * (height_ + 2 * kMargin) + shift_);
  }
  ptrdiff_t offset_of(ptrdiff_t y) const { return shift_ + (y + kMargin) * stride_ + kSide; }

  std::shared_ptr<float> memory_;  // nobody else's: shared with the chunk that it is a part of
  size_t capacity_ = 0;
  int width_ = 0, height_ = 0;
  ptrdiff_t stride_ = 0, shift_ = 0;
};

}  // namespace flowkit
