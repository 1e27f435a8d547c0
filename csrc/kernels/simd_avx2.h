// 16 lanes as two 256-bit registers. Needs AVX2, FMA and F16C; AVX-VNNI is used where the file is compiled with it.
// Included by a kernel file inside its own namespace, after the system headers.


struct F32 { __m256 lo, hi; };
struct I32 { __m256i lo, hi; };
using Bytes = I32;

// Register tiles exist only where everything is inlined; without registers to hold them, that makes things worse.
#define MADANG_TILE [[gnu::always_inline]]
constexpr int kFewTile = 4;  // rows that share one pass over weights, which are unpacked on their way
constexpr int kFewTokens = 4;  // up to here, unpacking weights once more costs less than keeping them
// Groups and tokens of a register tile with unpacked weights; what dot4_signed adds to every signed weight.
#if defined(__AVXVNNI__)
constexpr int kGroups = 1, kTokens = 4, kSignedZero = 128;
constexpr int kUnpackedBlocks = 32;  // of each of kGroups groups: what fits into the first-level cache
#else
constexpr int kGroups = 1, kTokens = 2, kSignedZero = 0;
constexpr int kUnpackedBlocks = 32;  // of each of kGroups groups: what fits into the first-level cache
#endif

constexpr int kFloatGroups = 1, kFloatTokens = 6;  // of a register tile with float weights
constexpr int kFloatBytes = 24 << 10;  // of kFloatGroups groups: what fits into the first-level cache
constexpr int kFewGroups = 2;  // with float weights and 4 tokens
constexpr int kQueryTile = 3, kScorePages = 2, kValueVectors = 2;  // of register tiles of attention

static inline F32 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline F32 broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline F32 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void store(float* p, F32 x) { _mm256_storeu_ps(p, x.lo); _mm256_storeu_ps(p + 8, x.hi); }
static inline F32 add(F32 a, F32 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
static inline F32 sub(F32 a, F32 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
static inline F32 mul(F32 a, F32 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
static inline F32 div(F32 a, F32 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
static inline F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
static inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
static inline F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
static inline F32 abs(F32 a) {
    const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return {_mm256_and_ps(a.lo, mask), _mm256_and_ps(a.hi, mask)};
}
static inline F32 round_nearest(F32 a) {
    constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.lo, mode), _mm256_round_ps(a.hi, mode)};
}
static inline __m256 power_half(__m256 n) {  // 2^n of integral n in the normal range
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline F32 scale_by_power(F32 a, F32 n) { return {_mm256_mul_ps(a.lo, power_half(n.lo)), _mm256_mul_ps(a.hi, power_half(n.hi))}; }
// a, but 0 where x < bound
static inline F32 zero_below(F32 a, F32 x, F32 bound) {
    return {_mm256_and_ps(a.lo, _mm256_cmp_ps(x.lo, bound.lo, _CMP_GE_OQ)), _mm256_and_ps(a.hi, _mm256_cmp_ps(x.hi, bound.hi, _CMP_GE_OQ))};
}
// a where x >= bound, b elsewhere
static inline F32 choose(F32 x, F32 bound, F32 a, F32 b) {
    return {_mm256_blendv_ps(b.lo, a.lo, _mm256_cmp_ps(x.lo, bound.lo, _CMP_GE_OQ)), _mm256_blendv_ps(b.hi, a.hi, _mm256_cmp_ps(x.hi, bound.hi, _CMP_GE_OQ))};
}
static inline float reduce_add(F32 a) {
    const __m256 sum = _mm256_add_ps(a.lo, a.hi);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
static inline float reduce_max(F32 a) {
    const __m256 top = _mm256_max_ps(a.lo, a.hi);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

static inline F32 load_half(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
static inline void store_half(uint16_t* p, F32 x) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}
static inline F32 to_float(I32 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
static inline I32 zero_int() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
static inline I32 minus(I32 a, int32_t b) {
    const __m256i all = _mm256_set1_epi32(b);
    return {_mm256_sub_epi32(a.lo, all), _mm256_sub_epi32(a.hi, all)};
}
static inline I32 widen(__m128i bytes) { return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))}; }
static inline F32 load_u8(const uint8_t* p) { return to_float(widen(_mm_loadu_si128((const __m128i*)p))); }
static inline F32 load_low_nibbles(const uint8_t* p) {
    return to_float(widen(_mm_and_si128(_mm_loadu_si128((const __m128i*)p), _mm_set1_epi8(15))));
}
static inline F32 load_high_nibbles(const uint8_t* p) {
    return to_float(widen(_mm_and_si128(_mm_srli_epi16(_mm_loadu_si128((const __m128i*)p), 4), _mm_set1_epi8(15))));
}
// 2^(x - 128) of bytes x below 255: float exponents, halved, with the smallest one as a subnormal
static inline __m256 exponents_half(__m256i x) {
    const __m256i bits = _mm256_max_epi32(_mm256_slli_epi32(x, 23), _mm256_set1_epi32(0x00400000));
    return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0.5f));
}
static inline F32 load_exponents(const uint8_t* p) {
    const I32 x = widen(_mm_loadu_si128((const __m128i*)p));
    return {exponents_half(x.lo), exponents_half(x.hi)};
}
static inline F32 load_i8(const uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128((const __m128i*)p);
    return to_float({_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))});
}
static inline void store_bytes(int8_t* p, I32 x) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.lo, x.hi), 0xd8);
    _mm_storeu_si128((__m128i*)p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
// Rounds x, whose magnitude is at most 127.
static inline void store_i8(int8_t* p, F32 x) { store_bytes(p, {_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)}); }
static inline __m256i high_half(__m256i q) { return _mm256_srai_epi32(_mm256_add_epi32(q, _mm256_set1_epi32(64)), 7); }
// Splits integral x into 128 * high + low with low in [-64, 63].
static inline void store_split(int8_t* high, int8_t* low, F32 x) {
    const I32 q = {_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)}, h = {high_half(q.lo), high_half(q.hi)};
    store_bytes(high, h);
    store_bytes(low, {_mm256_sub_epi32(q.lo, _mm256_slli_epi32(h.lo, 7)), _mm256_sub_epi32(q.hi, _mm256_slli_epi32(h.hi, 7))});
}
static inline I32 times_128(I32 a) { return {_mm256_slli_epi32(a.lo, 7), _mm256_slli_epi32(a.hi, 7)}; }

[[gnu::always_inline]] static inline void prefetch(const uint8_t* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
[[gnu::always_inline]] static inline void prefetch_second_level(const uint8_t* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }
static inline Bytes load_bytes(const uint8_t* p) {
    return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
}
static inline Bytes low_nibbles(Bytes a) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(a.lo, mask), _mm256_and_si256(a.hi, mask)};
}
static inline Bytes high_nibbles(Bytes a) { return low_nibbles({_mm256_srli_epi16(a.lo, 4), _mm256_srli_epi16(a.hi, 4)}); }
static inline __m256i bits_half(const uint8_t* bits, int value) {  // `value` where bit i of the 32 at `bits` is set
    int32_t mask;
    std::memcpy(&mask, bits, 4);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(mask), _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
    const __m256i select = _mm256_set1_epi64x(int64_t(0x8040201008040201));
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, select), select), _mm256_set1_epi8(char(value)));
}
// Adds `value` to byte i where bit i of the 64 at `bits` is set.
template <int value>
static inline Bytes with_bits(Bytes a, const uint8_t* bits) {
    return {_mm256_or_si256(a.lo, bits_half(bits, value)), _mm256_or_si256(a.hi, bits_half(bits + 4, value))};
}
// Bits 2 j and 2 j + 1 of each byte.
template <int j>
static inline Bytes pairs_of(Bytes a) {
    const __m256i mask = _mm256_set1_epi8(3);
    return {_mm256_and_si256(_mm256_srli_epi16(a.lo, 2 * j), mask), _mm256_and_si256(_mm256_srli_epi16(a.hi, 2 * j), mask)};
}
template <int j>
static inline __m256i pairs_half(__m256i pairs) {
    const __m256i moved = j == 0 ? _mm256_slli_epi16(pairs, 4) : j == 1 ? _mm256_slli_epi16(pairs, 2)
                        : j == 2 ? pairs : _mm256_srli_epi16(pairs, 2);
    return _mm256_and_si256(moved, _mm256_set1_epi8(0x30));
}
template <int j>
static inline Bytes with_pairs(Bytes a, Bytes pairs) {
    return {_mm256_or_si256(a.lo, pairs_half<j>(pairs.lo)), _mm256_or_si256(a.hi, pairs_half<j>(pairs.hi))};
}

// The same 16 bytes four times; what lookup() looks up in, with indices below 16.
static inline Bytes broadcast16(const int8_t* p) {
    const __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)p));
    return {twice, twice};
}
static inline Bytes lookup(Bytes table, Bytes indices) {
    return {_mm256_shuffle_epi8(table.lo, indices.lo), _mm256_shuffle_epi8(table.hi, indices.hi)};
}

using Quad = __m256i;  // 4 activations, for every row
static inline Quad load_quad(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
}
#if defined(__AVXVNNI__)
static inline I32 dot4(I32 sum, Bytes weights, Quad a) {
    return {_mm256_dpbusd_avx_epi32(sum.lo, weights.lo, a), _mm256_dpbusd_avx_epi32(sum.hi, weights.hi, a)};
}
static inline Bytes prepare_signed(Bytes a) {
    const __m256i flip = _mm256_set1_epi8(char(0x80));
    return {_mm256_xor_si256(a.lo, flip), _mm256_xor_si256(a.hi, flip)};
}
static inline I32 dot4_signed(I32 sum, Bytes prepared, Quad a) { return dot4(sum, prepared, a); }

// A sum of such products, by quants up to `largest`.
template <int largest>
struct Dots {
    I32 sum = zero_int();

    void add(Bytes weights, Quad activations, int) { sum = dot4(sum, weights, activations); }
    void add_signed(Bytes prepared, Quad activations) { sum = dot4_signed(sum, prepared, activations); }
};
#else
static inline __m256i dot4_half(__m256i sum, __m256i weights, __m256i activations) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(weights, activations), _mm256_set1_epi16(1)));
}
// maddubs saturates at 16 bits, which two products of full bytes overflow: |w| * sign(a, w) stays below.
static inline Bytes prepare_signed(Bytes a) { return a; }
static inline __m256i dot4_signed_half(__m256i sum, __m256i w, __m256i a) {
    return dot4_half(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
}

// A sum of products of 4 columns by quants up to `largest`, four at a time in 16 bits where they cannot overflow.
template <int largest>
struct Dots {
    static constexpr int kRun = largest <= 31 ? 4 : largest <= 63 ? 2 : 1;
    static_assert(largest == 255 || kRun * 2 * largest * 127 < 32768);
    I32 sum = zero_int(), narrow = zero_int();

    void add(Bytes weights, Quad a, int j) {
        narrow = {_mm256_add_epi16(narrow.lo, _mm256_maddubs_epi16(weights.lo, a)),
                  _mm256_add_epi16(narrow.hi, _mm256_maddubs_epi16(weights.hi, a))};
        if (j % kRun < kRun - 1) return;
        const __m256i ones = _mm256_set1_epi16(1);
        sum = {_mm256_add_epi32(sum.lo, _mm256_madd_epi16(narrow.lo, ones)), _mm256_add_epi32(sum.hi, _mm256_madd_epi16(narrow.hi, ones))};
        narrow = zero_int();
    }
    void add_signed(Bytes prepared, Quad a) { sum = {dot4_signed_half(sum.lo, prepared.lo, a), dot4_signed_half(sum.hi, prepared.hi, a)}; }
};
#endif

using Pairs = I32;
static inline Pairs load_pairs(const uint8_t* p) { return load_bytes(p); }
static inline F32 even_of(Pairs a) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(a.lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(a.hi, 16))};
}
static inline F32 odd_of(Pairs a) {
    const __m256i mask = _mm256_set1_epi32(int(0xffff0000));
    return {_mm256_castsi256_ps(_mm256_and_si256(a.lo, mask)), _mm256_castsi256_ps(_mm256_and_si256(a.hi, mask))};
}
constexpr bool kHasBfloatDot = false;
