// 16 lanes as one 512-bit register. Needs F, BW, VL, DQ and VNNI; BF16 is used where the file is compiled with it.
// Included by a kernel file inside its own namespace, after the system headers.


using F32 = __m512;
using I32 = __m512i;
using Bytes = __m512i;

// Register tiles exist only where everything is inlined; without registers to hold them, that makes things worse.
#define MADANG_TILE [[gnu::always_inline]]
constexpr int kGroups = 3, kTokens = 4;  // of a register tile with unpacked weights
constexpr int kFewTile = 8;  // rows that share one pass over weights, which are unpacked on their way
constexpr int kFewTokens = 8;       // up to here, unpacking weights once more costs less than keeping them
constexpr int kUnpackedBlocks = 18;  // of each of kGroups groups: what fits into the first-level cache
constexpr int kSignedZero = 128;    // what dot4_signed adds to every signed weight

constexpr int kFloatGroups = 2, kFloatTokens = 8;  // of a register tile with float weights
constexpr int kFloatBytes = 24 << 10;  // of kFloatGroups groups: what fits into the first-level cache
constexpr int kFewGroups = 4;  // with float weights and 4 tokens
constexpr int kQueryTile = 6, kScorePages = 2, kValueVectors = 4;  // of register tiles of attention

static inline F32 zero() { return _mm512_setzero_ps(); }
static inline F32 broadcast(float x) { return _mm512_set1_ps(x); }
static inline F32 load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, F32 x) { _mm512_storeu_ps(p, x); }
static inline F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
static inline F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
static inline F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
static inline F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
static inline F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
static inline F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
static inline F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
static inline F32 abs(F32 a) { return _mm512_abs_ps(a); }
static inline F32 round_nearest(F32 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline F32 scale_by_power(F32 a, F32 n) { return _mm512_scalef_ps(a, n); }
// a, but 0 where x < bound
static inline F32 zero_below(F32 a, F32 x, F32 bound) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_GE_OQ), a); }
// a where x >= bound, b elsewhere
static inline F32 choose(F32 x, F32 bound, F32 a, F32 b) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, bound, _CMP_GE_OQ), b, a); }
static inline float reduce_add(F32 a) { return _mm512_reduce_add_ps(a); }
static inline float reduce_max(F32 a) { return _mm512_reduce_max_ps(a); }

static inline F32 load_half(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
static inline void store_half(uint16_t* p, F32 x) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline F32 bytes_to_float(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)); }
static inline F32 load_u8(const uint8_t* p) { return bytes_to_float(_mm_loadu_si128((const __m128i*)p)); }
static inline F32 load_i8(const uint8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p))); }
static inline F32 load_low_nibbles(const uint8_t* p) {
    return bytes_to_float(_mm_and_si128(_mm_loadu_si128((const __m128i*)p), _mm_set1_epi8(15)));
}
static inline F32 load_high_nibbles(const uint8_t* p) {
    return bytes_to_float(_mm_and_si128(_mm_srli_epi16(_mm_loadu_si128((const __m128i*)p), 4), _mm_set1_epi8(15)));
}
// 2^(x - 128) of bytes x below 255: float exponents, halved, with the smallest one as a subnormal
static inline F32 load_exponents(const uint8_t* p) {
    const I32 exponents = _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)), 23);
    return mul(_mm512_castsi512_ps(_mm512_max_epi32(exponents, _mm512_set1_epi32(0x00400000))), broadcast(0.5f));
}
// Rounds x, whose magnitude is at most 127.
static inline void store_i8(int8_t* p, F32 x) { _mm_storeu_si128((__m128i*)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x))); }
// Splits integral x into 128 * high + low with low in [-64, 63].
static inline void store_split(int8_t* high, int8_t* low, F32 x) {
    const I32 q = _mm512_cvtps_epi32(x), h = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(64)), 7);
    _mm_storeu_si128((__m128i*)high, _mm512_cvtsepi32_epi8(h));
    _mm_storeu_si128((__m128i*)low, _mm512_cvtsepi32_epi8(_mm512_sub_epi32(q, _mm512_slli_epi32(h, 7))));
}

static inline F32 to_float(I32 a) { return _mm512_cvtepi32_ps(a); }
static inline I32 times_128(I32 a) { return _mm512_slli_epi32(a, 7); }
static inline I32 zero_int() { return _mm512_setzero_si512(); }
static inline I32 minus(I32 a, int32_t b) { return _mm512_sub_epi32(a, _mm512_set1_epi32(b)); }

[[gnu::always_inline]] static inline void prefetch(const uint8_t* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
[[gnu::always_inline]] static inline void prefetch_second_level(const uint8_t* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }
static inline Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
static inline Bytes low_nibbles(Bytes a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
static inline Bytes high_nibbles(Bytes a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15)); }
// Adds `value` to byte i where bit i of the 64 at `bits` is set.
template <int value>
static inline Bytes with_bits(Bytes a, const uint8_t* bits) {
    uint64_t mask;
    std::memcpy(&mask, bits, 8);
    return _mm512_mask_add_epi8(a, mask, a, _mm512_set1_epi8(value));
}
// Bits 2 j and 2 j + 1 of each byte.
template <int j>
static inline Bytes pairs_of(Bytes a) { return _mm512_and_si512(_mm512_srli_epi16(a, 2 * j), _mm512_set1_epi8(3)); }
// Puts bits 2 j and 2 j + 1 of each byte of `pairs` into bits 4 and 5.
template <int j>
static inline Bytes with_pairs(Bytes a, Bytes pairs) {
    const Bytes mask = _mm512_set1_epi8(0x30);
    const Bytes moved = j == 0 ? _mm512_slli_epi16(pairs, 4) : j == 1 ? _mm512_slli_epi16(pairs, 2)
                      : j == 2 ? pairs : _mm512_srli_epi16(pairs, 2);
    return _mm512_or_si512(a, _mm512_and_si512(moved, mask));
}

// The same 16 bytes four times; what lookup() looks up in, with indices below 16.
static inline Bytes broadcast16(const int8_t* p) { return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)p)); }
static inline Bytes lookup(Bytes table, Bytes indices) { return _mm512_shuffle_epi8(table, indices); }

// 4 activations, for every row.
using Quad = __m512i;
static inline Quad load_quad(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
}
// sum += weights (unsigned) . activations (signed), 4 columns in each of 16 rows
static inline I32 dot4(I32 sum, Bytes weights, Quad activations) { return _mm512_dpbusd_epi32(sum, weights, activations); }
static inline Bytes prepare_signed(Bytes a) { return _mm512_xor_si512(a, _mm512_set1_epi8(char(0x80))); }
static inline I32 dot4_signed(I32 sum, Bytes prepared, Quad activations) { return dot4(sum, prepared, activations); }

// A sum of such products, by quants up to `largest`.
template <int largest>
struct Dots {
    I32 sum = zero_int();

    void add(Bytes weights, Quad activations, int) { sum = dot4(sum, weights, activations); }
    void add_signed(Bytes prepared, Quad activations) { sum = dot4_signed(sum, prepared, activations); }
};

// Pairs of bfloat16: 16 rows x 2 columns.
using Pairs = __m512i;
static inline Pairs load_pairs(const uint8_t* p) { return _mm512_loadu_si512(p); }
static inline F32 even_of(Pairs a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
static inline F32 odd_of(Pairs a) { return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32(int(0xffff0000)))); }
#if defined(__AVX512BF16__)
constexpr bool kHasBfloatDot = true;
static inline F32 dot2(F32 sum, Pairs weights, const uint16_t* activations) {
    int32_t two;
    std::memcpy(&two, activations, 4);
    return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)_mm512_set1_epi32(two));
}
#else
constexpr bool kHasBfloatDot = false;
#endif
