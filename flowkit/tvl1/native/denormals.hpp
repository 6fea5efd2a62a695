// Numbers below 1e-38 count as zero while an object of this class lives.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>  // not immintrin.h, which takes GCC .7 s to parse
#endif

namespace flowkit {

// In still regions the dual variable fades out geometrically; without this each operation on it
// costs over a hundred cycles once it is denormal. On x86-64 the flags are the thread's own and are
// put back; AArch64 has no such penalty.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : before_(_mm_getcsr()) {
    _mm_setcsr(before_ | kFlushToZero | kDenormalsAreZero);
  }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  static constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  const unsigned before_;

 public:
#else
  FlushDenormals() = default;
  ~FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

}  // namespace flowkit
