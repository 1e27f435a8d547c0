// 16 lanes as four 128-bit registers. Needs the dot product instructions of ARMv8.2 (asimddp).
// Included by a kernel file inside its own namespace, after the system headers.


struct F32 { float32x4_t v[4]; };
struct I32 { int32x4_t v[4]; };
struct Bytes { uint8x16_t v[4]; };

// Register tiles exist only where everything is inlined.
#define MADANG_TILE [[gnu::always_inline]]
constexpr int kGroups = 1, kTokens = 4;  // of a register tile with unpacked weights
constexpr int kUnpackedBlocks = 32;  // of each of kGroups groups: what fits into the first-level cache
constexpr int kFewTile = 4;  // rows that share one pass over weights, which are unpacked on their way
constexpr int kFewTokens = 4;       // up to here, unpacking weights once more costs less than keeping them
constexpr int kFloatGroups = 1, kFloatTokens = 6;  // of a register tile with float weights
constexpr int kFloatBytes = 24 << 10;  // of kFloatGroups groups: what fits into the first-level cache
constexpr int kFewGroups = 1;  // with float weights and 4 tokens
constexpr int kQueryTile = 3, kScorePages = 2, kValueVectors = 2;  // of register tiles of attention
constexpr int kSignedZero = 0;      // what dot4_signed adds to every signed weight

template <class Function>
static inline F32 quarters(Function f) { return {{f(0), f(1), f(2), f(3)}}; }
template <class Function>
static inline I32 int_quarters(Function f) { return {{f(0), f(1), f(2), f(3)}}; }
template <class Function>
static inline Bytes byte_quarters(Function f) { return {{f(0), f(1), f(2), f(3)}}; }

static inline F32 broadcast(float x) { return quarters([&](int) { return vdupq_n_f32(x); }); }
static inline F32 zero() { return broadcast(0); }
static inline F32 load(const float* p) { return quarters([&](int i) { return vld1q_f32(p + 4 * i); }); }
static inline void store(float* p, F32 x) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]);
}
static inline F32 add(F32 a, F32 b) { return quarters([&](int i) { return vaddq_f32(a.v[i], b.v[i]); }); }
static inline F32 sub(F32 a, F32 b) { return quarters([&](int i) { return vsubq_f32(a.v[i], b.v[i]); }); }
static inline F32 mul(F32 a, F32 b) { return quarters([&](int i) { return vmulq_f32(a.v[i], b.v[i]); }); }
static inline F32 div(F32 a, F32 b) { return quarters([&](int i) { return vdivq_f32(a.v[i], b.v[i]); }); }
static inline F32 fma(F32 a, F32 b, F32 c) { return quarters([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); }); }
static inline F32 max(F32 a, F32 b) { return quarters([&](int i) { return vmaxq_f32(a.v[i], b.v[i]); }); }
static inline F32 min(F32 a, F32 b) { return quarters([&](int i) { return vminq_f32(a.v[i], b.v[i]); }); }
static inline F32 abs(F32 a) { return quarters([&](int i) { return vabsq_f32(a.v[i]); }); }
static inline F32 round_nearest(F32 a) { return quarters([&](int i) { return vrndnq_f32(a.v[i]); }); }
// 2^n of integral n in the normal range
static inline F32 scale_by_power(F32 a, F32 n) {
    return quarters([&](int i) {
        const int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n.v[i]), vdupq_n_s32(127)), 23);
        return vmulq_f32(a.v[i], vreinterpretq_f32_s32(exponent));
    });
}
// a, but 0 where x < bound
static inline F32 zero_below(F32 a, F32 x, F32 bound) {
    return quarters([&](int i) {
        return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.v[i]), vcgeq_f32(x.v[i], bound.v[i])));
    });
}
// a where x >= bound, b elsewhere
static inline F32 choose(F32 x, F32 bound, F32 a, F32 b) {
    return quarters([&](int i) { return vbslq_f32(vcgeq_f32(x.v[i], bound.v[i]), a.v[i], b.v[i]); });
}
static inline float reduce_add(F32 a) { return vaddvq_f32(vaddq_f32(vaddq_f32(a.v[0], a.v[1]), vaddq_f32(a.v[2], a.v[3]))); }
static inline float reduce_max(F32 a) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[1]), vmaxq_f32(a.v[2], a.v[3]))); }

static inline F32 load_half(const uint16_t* p) {
    return quarters([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
static inline void store_half(uint16_t* p, F32 x) {
    for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i])));
}
static inline F32 to_float(I32 a) { return quarters([&](int i) { return vcvtq_f32_s32(a.v[i]); }); }
static inline I32 zero_int() { return int_quarters([](int) { return vdupq_n_s32(0); }); }
static inline I32 minus(I32 a, int32_t b) { return int_quarters([&](int i) { return vsubq_s32(a.v[i], vdupq_n_s32(b)); }); }
static inline I32 times_128(I32 a) { return int_quarters([&](int i) { return vshlq_n_s32(a.v[i], 7); }); }
static inline I32 widen(uint8x16_t bytes) {
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
    const auto four = [](uint16x4_t half) { return vreinterpretq_s32_u32(vmovl_u16(half)); };
    return {{four(vget_low_u16(low)), four(vget_high_u16(low)), four(vget_low_u16(high)), four(vget_high_u16(high))}};
}
static inline F32 load_u8(const uint8_t* p) { return to_float(widen(vld1q_u8(p))); }
static inline F32 load_i8(const uint8_t* p) {
    const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(p));
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return to_float({{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)), vmovl_s16(vget_low_s16(high)), vmovl_s16(vget_high_s16(high))}});
}
static inline F32 load_low_nibbles(const uint8_t* p) { return to_float(widen(vandq_u8(vld1q_u8(p), vdupq_n_u8(15)))); }
static inline F32 load_high_nibbles(const uint8_t* p) { return to_float(widen(vshrq_n_u8(vld1q_u8(p), 4))); }
// 2^(x - 128) of bytes x below 255: float exponents, halved, with the smallest one as a subnormal
static inline F32 load_exponents(const uint8_t* p) {
    const I32 x = widen(vld1q_u8(p));
    return quarters([&](int i) {
        const int32x4_t bits = vmaxq_s32(vshlq_n_s32(x.v[i], 23), vdupq_n_s32(0x00400000));
        return vmulq_f32(vreinterpretq_f32_s32(bits), vdupq_n_f32(0.5f));
    });
}
static inline void store_bytes(int8_t* p, I32 x) {
    const int16x8_t low = vcombine_s16(vqmovn_s32(x.v[0]), vqmovn_s32(x.v[1]));
    const int16x8_t high = vcombine_s16(vqmovn_s32(x.v[2]), vqmovn_s32(x.v[3]));
    vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}
// Rounds x, whose magnitude is at most 127.
static inline void store_i8(int8_t* p, F32 x) { store_bytes(p, int_quarters([&](int i) { return vcvtnq_s32_f32(x.v[i]); })); }
// Splits integral x into 128 * high + low with low in [-64, 63].
static inline void store_split(int8_t* high, int8_t* low, F32 x) {
    const I32 q = int_quarters([&](int i) { return vcvtnq_s32_f32(x.v[i]); });
    const I32 h = int_quarters([&](int i) { return vshrq_n_s32(vaddq_s32(q.v[i], vdupq_n_s32(64)), 7); });
    store_bytes(high, h);
    store_bytes(low, int_quarters([&](int i) { return vsubq_s32(q.v[i], vshlq_n_s32(h.v[i], 7)); }));
}

[[gnu::always_inline]] static inline void prefetch(const uint8_t* p) { __builtin_prefetch(p); }
[[gnu::always_inline]] static inline void prefetch_second_level(const uint8_t* p) { __builtin_prefetch(p, 0, 2); }
static inline Bytes load_bytes(const uint8_t* p) { return byte_quarters([&](int i) { return vld1q_u8(p + 16 * i); }); }
static inline Bytes low_nibbles(Bytes a) { return byte_quarters([&](int i) { return vandq_u8(a.v[i], vdupq_n_u8(15)); }); }
static inline Bytes high_nibbles(Bytes a) { return byte_quarters([&](int i) { return vshrq_n_u8(a.v[i], 4); }); }
// Adds `value` to byte i where bit i of the 64 at `bits` is set.
template <int value>
static inline Bytes with_bits(Bytes a, const uint8_t* bits) {
    const uint8x16_t select = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    return byte_quarters([&](int i) {
        const uint8x16_t spread = vcombine_u8(vdup_n_u8(bits[2 * i]), vdup_n_u8(bits[2 * i + 1]));
        return vorrq_u8(a.v[i], vandq_u8(vtstq_u8(spread, select), vdupq_n_u8(value)));
    });
}
// a >> n, to the left where n is negative
template <int n>
static inline uint8x16_t shift_right(uint8x16_t a) {
    if constexpr (n > 0) return vshrq_n_u8(a, n);
    if constexpr (n < 0) return vshlq_n_u8(a, -n);
    return a;
}
// Bits 2 j and 2 j + 1 of each byte.
template <int j>
static inline Bytes pairs_of(Bytes a) {
    return byte_quarters([&](int i) { return vandq_u8(shift_right<2 * j>(a.v[i]), vdupq_n_u8(3)); });
}
// Puts bits 2 j and 2 j + 1 of each byte of `pairs` into bits 4 and 5.
template <int j>
static inline Bytes with_pairs(Bytes a, Bytes pairs) {
    return byte_quarters([&](int i) { return vorrq_u8(a.v[i], vandq_u8(shift_right<2 * j - 4>(pairs.v[i]), vdupq_n_u8(0x30))); });
}
// The same 16 bytes four times; what lookup() looks up in, with indices below 16.
static inline Bytes broadcast16(const int8_t* p) {
    return byte_quarters([&](int) { return vreinterpretq_u8_s8(vld1q_s8(p)); });
}
static inline Bytes lookup(Bytes table, Bytes indices) {
    return byte_quarters([&](int i) { return vqtbl1q_u8(table.v[i], indices.v[i]); });
}

// 4 activations, for every row.
using Quad = int8x16_t;
static inline Quad load_quad(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
// sum += weights . activations, 4 columns in each of 16 rows. Both are signed: unsigned quants are below 64.
static inline I32 dot4(I32 sum, Bytes weights, Quad activations) {
    return int_quarters([&](int i) { return vdotq_s32(sum.v[i], vreinterpretq_s8_u8(weights.v[i]), activations); });
}
static inline Bytes prepare_signed(Bytes a) { return a; }
static inline I32 dot4_signed(I32 sum, Bytes prepared, Quad activations) { return dot4(sum, prepared, activations); }

// A sum of such products, by quants up to `largest`.
template <int largest>
struct Dots {
    static_assert(largest == 255 || largest < 128);
    I32 sum = zero_int();

    void add(Bytes weights, Quad activations, int) { sum = dot4(sum, weights, activations); }
    void add_signed(Bytes prepared, Quad activations) { sum = dot4_signed(sum, prepared, activations); }
};

// Pairs of bfloat16: 16 rows x 2 columns.
using Pairs = Bytes;
static inline Pairs load_pairs(const uint8_t* p) { return load_bytes(p); }
static inline F32 even_of(Pairs a) {
    return quarters([&](int i) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(a.v[i]), 16)); });
}
static inline F32 odd_of(Pairs a) {
    return quarters([&](int i) { return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(a.v[i]), vdupq_n_u32(0xffff0000))); });
}
constexpr bool kHasBfloatDot = false;
