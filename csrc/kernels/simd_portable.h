// 16 lanes as plain arrays: correct everywhere, and a compiler may still vectorize the loops.
// Included by a kernel file inside its own namespace, after the system headers.


struct F32 { float v[16]; };
struct I32 { int32_t v[16]; };
struct Bytes { uint8_t v[64]; };

constexpr int kGroups = 1, kTokens = 4;  // of a register tile with unpacked weights
constexpr int kUnpackedBlocks = 32;  // of each of kGroups groups: what fits into the first-level cache
// Nothing stays in registers here, so that inlining tiles would not help.
#define MADANG_TILE
constexpr int kFewTile = 4;  // rows that share one pass over weights, which are unpacked on their way
constexpr int kFewTokens = 4;       // up to here, unpacking weights once more costs less than keeping them
constexpr int kFloatGroups = 2, kFloatTokens = 4;  // of a register tile with float weights
constexpr int kFloatBytes = 24 << 10;  // of kFloatGroups groups: what fits into the first-level cache
constexpr int kFewGroups = 2;  // with float weights and 4 tokens
constexpr int kQueryTile = 3, kScorePages = 2, kValueVectors = 2;  // of register tiles of attention
constexpr int kSignedZero = 0;

#define MADANG_LANES for (int i = 0; i < 16; ++i)
template <class Function>
static inline F32 lanes(Function f) {
    F32 r;
    MADANG_LANES r.v[i] = f(i);
    return r;
}

static inline F32 broadcast(float x) { return lanes([&](int) { return x; }); }
static inline F32 zero() { return broadcast(0); }
static inline F32 load(const float* p) { return lanes([&](int i) { return p[i]; }); }
static inline void store(float* p, F32 x) { MADANG_LANES p[i] = x.v[i]; }
static inline F32 add(F32 a, F32 b) { return lanes([&](int i) { return a.v[i] + b.v[i]; }); }
static inline F32 sub(F32 a, F32 b) { return lanes([&](int i) { return a.v[i] - b.v[i]; }); }
static inline F32 mul(F32 a, F32 b) { return lanes([&](int i) { return a.v[i] * b.v[i]; }); }
static inline F32 div(F32 a, F32 b) { return lanes([&](int i) { return a.v[i] / b.v[i]; }); }
// Not std::fma: without the instruction it is a library call. Two roundings here, one elsewhere.
static inline F32 fma(F32 a, F32 b, F32 c) { return lanes([&](int i) { return a.v[i] * b.v[i] + c.v[i]; }); }
static inline F32 max(F32 a, F32 b) { return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
static inline F32 min(F32 a, F32 b) { return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
static inline F32 abs(F32 a) { return lanes([&](int i) { return std::fabs(a.v[i]); }); }
static inline F32 round_nearest(F32 a) { return lanes([&](int i) { return std::nearbyint(a.v[i]); }); }
static inline F32 scale_by_power(F32 a, F32 n) {
    return lanes([&](int i) { return a.v[i] * madang::bits_to_float(uint32_t(int(n.v[i]) + 127) << 23); });
}
// a, but 0 where x < bound
static inline F32 zero_below(F32 a, F32 x, F32 bound) { return lanes([&](int i) { return x.v[i] >= bound.v[i] ? a.v[i] : 0.0f; }); }
// a where x >= bound, b elsewhere
static inline F32 choose(F32 x, F32 bound, F32 a, F32 b) { return lanes([&](int i) { return x.v[i] >= bound.v[i] ? a.v[i] : b.v[i]; }); }
static inline float reduce_add(F32 a) {
    for (int width = 8; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
    return a.v[0];
}
static inline float reduce_max(F32 a) {
    float top = a.v[0];
    MADANG_LANES top = a.v[i] > top ? a.v[i] : top;
    return top;
}

static inline F32 load_half(const uint16_t* p) { return lanes([&](int i) { return madang::half_to_float(p[i]); }); }
static inline void store_half(uint16_t* p, F32 x) { MADANG_LANES p[i] = madang::float_to_half(x.v[i]); }
static inline F32 load_u8(const uint8_t* p) { return lanes([&](int i) { return float(p[i]); }); }
static inline F32 load_i8(const uint8_t* p) { return lanes([&](int i) { return float(int8_t(p[i])); }); }
static inline F32 load_low_nibbles(const uint8_t* p) { return lanes([&](int i) { return float(p[i] & 15); }); }
static inline F32 load_high_nibbles(const uint8_t* p) { return lanes([&](int i) { return float(p[i] >> 4); }); }
// 2^(x - 128) of bytes x below 255
static inline F32 load_exponents(const uint8_t* p) {
    return lanes([&](int i) { return madang::bits_to_float(p[i] ? uint32_t(p[i]) << 23 : 0x00400000) * 0.5f; });
}
// Rounds x, whose magnitude is at most 127.
static inline void store_i8(int8_t* p, F32 x) { MADANG_LANES p[i] = int8_t(std::nearbyint(x.v[i])); }
// Splits integral x into 128 * high + low with low in [-64, 63].
static inline void store_split(int8_t* high, int8_t* low, F32 x) {
    MADANG_LANES {
        const int q = int(std::nearbyint(x.v[i]));
        high[i] = int8_t((q + 64) >> 7);
        low[i] = int8_t(q - high[i] * 128);
    }
}
static inline I32 times_128(I32 a) {
    MADANG_LANES a.v[i] *= 128;
    return a;
}
static inline F32 to_float(I32 a) { return lanes([&](int i) { return float(a.v[i]); }); }
static inline I32 zero_int() { return I32{}; }
static inline I32 minus(I32 a, int32_t b) {
    MADANG_LANES a.v[i] -= b;
    return a;
}

static inline void prefetch(const uint8_t*) {}
static inline void prefetch_second_level(const uint8_t*) {}
static inline Bytes load_bytes(const uint8_t* p) {
    Bytes r;
    std::memcpy(r.v, p, 64);
    return r;
}
static inline Bytes low_nibbles(Bytes a) {
    for (uint8_t& byte : a.v) byte &= 15;
    return a;
}
static inline Bytes high_nibbles(Bytes a) {
    for (uint8_t& byte : a.v) byte >>= 4;
    return a;
}
// Adds `value` to byte i where bit i of the 64 at `bits` is set.
template <int value>
static inline Bytes with_bits(Bytes a, const uint8_t* bits) {
    for (int i = 0; i < 64; ++i) a.v[i] |= uint8_t((bits[i / 8] >> (i % 8) & 1) * value);
    return a;
}
// Bits 2 j and 2 j + 1 of each byte.
template <int j>
static inline Bytes pairs_of(Bytes a) {
    for (uint8_t& byte : a.v) byte = byte >> (2 * j) & 3;
    return a;
}
template <int j>
static inline Bytes with_pairs(Bytes a, Bytes pairs) {
    for (int i = 0; i < 64; ++i) a.v[i] |= uint8_t((pairs.v[i] >> (2 * j) & 3) << 4);
    return a;
}
// The same 16 bytes four times; what lookup() looks up in, with indices below 16.
static inline Bytes broadcast16(const int8_t* p) {
    Bytes r;
    for (int i = 0; i < 64; ++i) r.v[i] = uint8_t(p[i % 16]);
    return r;
}
static inline Bytes lookup(Bytes table, Bytes indices) {
    for (uint8_t& byte : indices.v) byte = table.v[byte];
    return indices;
}
using Quad = const int8_t*;
static inline Quad load_quad(const int8_t* p) { return p; }
template <class Weight>
static inline I32 dot4_of(I32 sum, const Bytes& weights, Quad a) {
    MADANG_LANES for (int c = 0; c < 4; ++c) sum.v[i] += int32_t(Weight(weights.v[4 * i + c])) * a[c];
    return sum;
}
static inline I32 dot4(I32 sum, Bytes weights, Quad activations) { return dot4_of<uint8_t>(sum, weights, activations); }
static inline Bytes prepare_signed(Bytes a) { return a; }
static inline I32 dot4_signed(I32 sum, Bytes prepared, Quad activations) { return dot4_of<int8_t>(sum, prepared, activations); }

// A sum of such products, by quants up to `largest`.
template <int largest>
struct Dots {
    I32 sum = zero_int();

    void add(Bytes weights, Quad activations, int) { sum = dot4(sum, weights, activations); }
    void add_signed(Bytes prepared, Quad activations) { sum = dot4_signed(sum, prepared, activations); }
};

using Pairs = Bytes;
static inline Pairs load_pairs(const uint8_t* p) { return load_bytes(p); }
static inline F32 pair_element(const Pairs& a, int which) {
    return lanes([&](int i) {
        uint16_t bits;
        std::memcpy(&bits, a.v + 4 * i + 2 * which, 2);
        return madang::bfloat_to_float(bits);
    });
}
static inline F32 even_of(Pairs a) { return pair_element(a, 0); }
static inline F32 odd_of(Pairs a) { return pair_element(a, 1); }
constexpr bool kHasBfloatDot = false;
#undef MADANG_LANES
