// One vector of floats, for the instruction set that the including source file was given.
//
// Arithmetic is that of the compilers' vector extensions; only what those lack is written with
// intrinsics. Everything here is static: the same names compiled for another instruction set in
// another source file must stay another function.
#pragma once

#define FLOWKIT_INLINE static inline __attribute__((always_inline))

#if FLOWKIT_ISA_AVX512
constexpr int kLanes = 16;
#elif FLOWKIT_ISA_AVX2
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int IntVec __attribute__((vector_size(kLanes * sizeof(int))));  // also a mask: 0 or -1

FLOWKIT_INLINE Vec load(const float* source) {
  Vec v;
  __builtin_memcpy(&v, source, sizeof v);
  return v;
}

FLOWKIT_INLINE IntVec load(const int* source) {
  IntVec v;
  __builtin_memcpy(&v, source, sizeof v);
  return v;
}

FLOWKIT_INLINE void store(float* target, Vec v) { __builtin_memcpy(target, &v, sizeof v); }

FLOWKIT_INLINE Vec splat(float value) { return value - Vec{}; }

FLOWKIT_INLINE IntVec splat(int value) { return value - IntVec{}; }

// 0, 1, 2, ...
FLOWKIT_INLINE IntVec lane_numbers() {
  IntVec lanes{};
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes;
}

// The sum in lane order, so that it is the same in every run.
FLOWKIT_INLINE float sum(Vec v) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

// Keep the lanes before `count`, zero the others.
FLOWKIT_INLINE Vec first_lanes(Vec v, int count) {
  return lane_numbers() < splat(count) ? v : Vec{};
}

#if FLOWKIT_ISA_AVX512

FLOWKIT_INLINE Vec sqrt(Vec v) { return (Vec)_mm512_sqrt_ps((__m512)v); }
// If either is NaN, min and max give `b` (all x86 sets) or the number (AArch64).
FLOWKIT_INLINE Vec min(Vec a, Vec b) { return (Vec)_mm512_min_ps((__m512)a, (__m512)b); }
FLOWKIT_INLINE Vec max(Vec a, Vec b) { return (Vec)_mm512_max_ps((__m512)a, (__m512)b); }
// The lanes of v that `lanes` name.
constexpr bool kCanShuffle = true;
FLOWKIT_INLINE Vec shuffled(Vec v, IntVec lanes) {
  return (Vec)_mm512_permutexvar_ps((__m512i)lanes, (__m512)v);
}
// The same of two vectors end to end.
FLOWKIT_INLINE Vec shuffled(Vec v, Vec next, IntVec lanes) {
  return (Vec)_mm512_permutex2var_ps((__m512)v, (__m512i)lanes, (__m512)next);
}
// The last lane of `before`, then all but the last lane of `v`.
FLOWKIT_INLINE Vec shift_in(Vec before, Vec v) {
  return (Vec)_mm512_alignr_epi32((__m512i)v, (__m512i)before, 15);
}
// 1 / v to about one unit in the last place, v normal and below 1e38. The divider is what limits
// the inner loop; an estimate of 14 bits and one step of Newton's method leave it to the square
// roots.
FLOWKIT_INLINE Vec reciprocal(Vec v) {
  const Vec estimate = (Vec)_mm512_rcp14_ps((__m512)v);
  return estimate + estimate * (splat(1.f) - v * estimate);
}
// 1 / sqrt(v) to 4e-4 of it, infinite where v is zero; the bits differ from maker to maker.
FLOWKIT_INLINE Vec rsqrt(Vec v) { return (Vec)_mm512_rsqrt14_ps((__m512)v); }
// v limited to [-bound, bound]; bound >= 0.
FLOWKIT_INLINE Vec clamp_magnitude(Vec v, Vec bound) {
  return (Vec)_mm512_range_ps((__m512)v, (__m512)bound, 2);  // smaller magnitude, sign of v
}
// One bit per lane of a mask.
FLOWKIT_INLINE unsigned lane_bits(IntVec mask) { return _mm512_movepi32_mask((__m512i)mask); }
// total + term where v <= limit.
FLOWKIT_INLINE Vec add_up_to(Vec limit, Vec v, Vec term, Vec total) {
  const __mmask16 within = _mm512_cmp_ps_mask((__m512)v, (__m512)limit, _CMP_LE_OS);
  return (Vec)_mm512_mask_add_ps((__m512)total, within, (__m512)total, (__m512)term);
}

#else

FLOWKIT_INLINE Vec add_up_to(Vec limit, Vec v, Vec term, Vec total) {
  return total + (Vec)((IntVec)term & (v <= limit));
}

#if !FLOWKIT_ISA_AVX2
constexpr bool kCanShuffle = false;
FLOWKIT_INLINE Vec shuffled(Vec v, IntVec) { return v; }
FLOWKIT_INLINE Vec shuffled(Vec v, Vec, IntVec) { return v; }
#endif

#if FLOWKIT_ISA_AVX2

FLOWKIT_INLINE Vec rsqrt(Vec v) { return (Vec)_mm256_rsqrt_ps((__m256)v); }
FLOWKIT_INLINE Vec sqrt(Vec v) { return (Vec)_mm256_sqrt_ps((__m256)v); }
FLOWKIT_INLINE Vec min(Vec a, Vec b) { return (Vec)_mm256_min_ps((__m256)a, (__m256)b); }
FLOWKIT_INLINE Vec max(Vec a, Vec b) { return (Vec)_mm256_max_ps((__m256)a, (__m256)b); }
constexpr bool kCanShuffle = true;
FLOWKIT_INLINE Vec shuffled(Vec v, IntVec lanes) {
  return (Vec)_mm256_permutevar8x32_ps((__m256)v, (__m256i)lanes);
}
// Of a lane number, the shuffle takes the low three bits.
FLOWKIT_INLINE Vec shuffled(Vec v, Vec next, IntVec lanes) {
  return lanes < splat(kLanes) ? shuffled(v, lanes) : shuffled(next, lanes);
}
FLOWKIT_INLINE Vec shift_in(Vec before, Vec v) {
  const __m256i middle = _mm256_permute2x128_si256((__m256i)before, (__m256i)v, 0x21);
  return (Vec)_mm256_alignr_epi8((__m256i)v, middle, 12);
}
FLOWKIT_INLINE unsigned lane_bits(IntVec mask) {
  return static_cast<unsigned>(_mm256_movemask_ps((__m256)mask));
}

#elif defined(__x86_64__)

FLOWKIT_INLINE Vec rsqrt(Vec v) { return (Vec)_mm_rsqrt_ps((__m128)v); }
FLOWKIT_INLINE Vec sqrt(Vec v) { return (Vec)_mm_sqrt_ps((__m128)v); }
FLOWKIT_INLINE Vec min(Vec a, Vec b) { return (Vec)_mm_min_ps((__m128)a, (__m128)b); }
FLOWKIT_INLINE Vec max(Vec a, Vec b) { return (Vec)_mm_max_ps((__m128)a, (__m128)b); }
FLOWKIT_INLINE Vec shift_in(Vec before, Vec v) {
  const __m128 ends = _mm_shuffle_ps((__m128)before, (__m128)v, _MM_SHUFFLE(0, 0, 3, 3));
  return (Vec)_mm_shuffle_ps(ends, (__m128)v, _MM_SHUFFLE(2, 1, 2, 0));
}
FLOWKIT_INLINE unsigned lane_bits(IntVec mask) {
  return static_cast<unsigned>(_mm_movemask_ps((__m128)mask));
}

#else  // any machine with GCC or clang; on AArch64 the builtins become single instructions

FLOWKIT_INLINE Vec sqrt(Vec v) {
  for (int i = 0; i < kLanes; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}
FLOWKIT_INLINE Vec rsqrt(Vec v) { return splat(1.f) / sqrt(v); }
FLOWKIT_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
FLOWKIT_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
FLOWKIT_INLINE Vec shift_in(Vec before, Vec v) { return Vec{before[kLanes - 1], v[0], v[1], v[2]}; }
FLOWKIT_INLINE unsigned lane_bits(IntVec mask) {
  unsigned bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= (mask[i] & 1u) << i;
  return bits;
}

#endif

FLOWKIT_INLINE Vec reciprocal(Vec v) { return splat(1.f) / v; }
FLOWKIT_INLINE Vec clamp_magnitude(Vec v, Vec bound) { return max(min(v, bound), -bound); }

#endif

// 2^v to 4e-5 of it for v <= 126; zero but for 2^-126 below that. Adding 1.5 * 2^23 rounds v to a
// whole number, which then is in the sum's low bits; the rest, in [-.5, .5], goes into a series.
FLOWKIT_INLINE Vec exp2(Vec v) {
  const Vec x = max(v, splat(-126.f)), round = splat(12582912.f);
  const Vec whole = x + round, f = x - (whole - round);
  const Vec power = 1.f + f * (.69314718f + f * (.24022651f + f * (.05550411f + f * .00961813f)));
  return (Vec)((IntVec)power + ((IntVec)whole << 23));
}

// log2(v) to 1e-6, v normal and above zero.
FLOWKIT_INLINE Vec log2(Vec v) {
  const IntVec bits = (IntVec)v - splat(0x3f3504f3);  // of sqrt(1/2): the mantissa is in [.7, 1.4)
  const IntVec exponent = bits >> 23;
  const Vec mantissa = (Vec)((bits & splat(0x007fffff)) + splat(0x3f3504f3));
  const Vec s = (mantissa - 1.f) / (mantissa + 1.f), square = s * s;
  const Vec series = s * (2.8853901f + square * (.9617967f + square * (.5770780f + square * .4121986f)));
  return __builtin_convertvector(exponent, Vec) + series;
}
