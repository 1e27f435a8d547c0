// What the fits need beyond simd_*.h. 16 independent blocks or sub-blocks lie across the lanes, so that no sum crosses them:
// every lane's sum has one order, and each instruction set gives the same bits. Products are never contracted into sums here
// (fma is not used, and the compiler is told so).

constexpr float kTiny = 1e-30f;  // below every scale that a float16 can hold

// The nearest integer of |x| < 2^22, halves to even: no instruction set lacks an addition.
static inline F32 nearest(F32 x) {
    const F32 magic = broadcast(12582912.0f);
    return sub(add(x, magic), magic);
}

static inline F32 clamp(F32 x, F32 low, F32 high) { return max(min(x, high), low); }
static inline F32 clamp(F32 x, float low, float high) { return clamp(x, broadcast(low), broadcast(high)); }
static inline F32 negated(F32 x) { return sub(zero(), x); }

// a / b, but 0 where |b| is next to nothing.
static inline F32 quotient(F32 a, F32 b) { return choose(abs(b), broadcast(kTiny), div(a, b), zero()); }
static inline F32 inverse(F32 b) { return quotient(broadcast(1), b); }

// As a float16 holds it, within its range.
static inline F32 as_half(F32 x) {
    uint16_t halves[16];
    store_half(halves, clamp(x, -65504.0f, 65504.0f));
    return load_half(halves);
}

// The same of a factor, which small integers multiply: rather the smallest float16 than none.
static inline F32 as_factor(F32 x) {
    const F32 smallest = broadcast(0x1p-24f);
    const F32 raised = choose(x, zero(), max(x, smallest), min(x, negated(smallest)));
    return choose(abs(x), broadcast(kTiny), as_half(raised), zero());
}

// x as the nearest float16 and its neighbours on both sides.
static inline void half_neighbours(F32 x, F32 (&out)[3]) {
    uint16_t halves[16], below[16], above[16];
    store_half(halves, clamp(x, -65504.0f, 65504.0f));
    for (int i = 0; i < 16; ++i) {
        const uint16_t magnitude = halves[i] & 0x7fff;
        below[i] = uint16_t(halves[i] - (magnitude > 0));
        above[i] = uint16_t(halves[i] + (magnitude < 0x7bff));
    }
    out[0] = load_half(halves);
    out[1] = load_half(below);
    out[2] = load_half(above);
}

// Sums over each group of so many neighbouring lanes, in all lanes of that group.
template <int group>
static inline F32 group_sum(F32 x) {
    if constexpr (group == 1) return x;
    float v[16];
    store(v, x);
    for (int first = 0; first < 16; first += group) {
        float sum = 0;
        for (int i = first; i < first + group; ++i) sum += v[i];
        for (int i = first; i < first + group; ++i) v[i] = sum;
    }
    return load(v);
}

// The value of largest magnitude in each group.
template <int group>
static inline F32 group_top(F32 x) {
    if constexpr (group == 1) return x;
    float v[16];
    store(v, x);
    for (int first = 0; first < 16; first += group) {
        float top = 0;
        for (int i = first; i < first + group; ++i) top = std::fabs(v[i]) > std::fabs(top) ? v[i] : top;
        for (int i = first; i < first + group; ++i) v[i] = top;
    }
    return load(v);
}
