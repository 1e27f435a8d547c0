// Work on single rows: norms, activations, and the forms in which products want them.

// exp(x) to about 2 units in the last place; 0 below the normal range. Cephes-style: 2^n * polynomial(remainder).
static inline F32 exponential(F32 x) {
    const F32 lowest = broadcast(-87.0f);
    const F32 clamped = min(max(x, lowest), broadcast(88.0f));
    const F32 n = round_nearest(mul(clamped, broadcast(1.44269504088896341f)));
    F32 r = fma(n, broadcast(-0.693359375f), clamped);
    r = fma(n, broadcast(2.12194440e-4f), r);
    F32 p = broadcast(1.9875691500e-4f);
    p = fma(p, r, broadcast(1.3981999507e-3f));
    p = fma(p, r, broadcast(8.3334519073e-3f));
    p = fma(p, r, broadcast(4.1665795894e-2f));
    p = fma(p, r, broadcast(1.6666665459e-1f));
    p = fma(p, r, broadcast(5.0000001201e-1f));
    p = add(fma(mul(r, r), p, r), broadcast(1.0f));
    return zero_below(scale_by_power(p, n), x, lowest);
}

static void rms_norm(const float* x, const float* weight, float* y, int n, float epsilon) {
    F32 squares = zero();
    for (int i = 0; i < n; i += kLanes) squares = fma(load(x + i), load(x + i), squares);
    const F32 scale = broadcast(1.0f / std::sqrt(reduce_add(squares) / float(n) + epsilon));
    for (int i = 0; i < n; i += kLanes) store(y + i, mul(mul(load(x + i), scale), load(weight + i)));
}

static void layer_norm(const float* x, const float* weight, const float* bias, float* y, int n, float epsilon) {
    F32 sums = zero();
    for (int i = 0; i < n; i += kLanes) sums = add(sums, load(x + i));
    const F32 mean = broadcast(reduce_add(sums) / float(n));
    const int whole = n / kLanes * kLanes;
    F32 squares = zero();
    for (int i = 0; i < whole; i += kLanes) {
        const F32 off = sub(load(x + i), mean);
        squares = fma(off, off, squares);
    }
    if (whole < n) {  // the zeros after the end are no deviations
        float rest[kLanes];
        store(rest, mean);
        std::copy(x + whole, x + n, rest);
        const F32 off = sub(load(rest), mean);
        squares = fma(off, off, squares);
    }
    const F32 scale = broadcast(1.0f / std::sqrt(reduce_add(squares) / float(n) + epsilon));
    for (int i = 0; i < n; i += kLanes) {
        const F32 normal = mul(sub(load(x + i), mean), scale), w = load(weight + i);
        store(y + i, bias ? fma(normal, w, load(bias + i)) : mul(normal, w));
    }
}

static void quantize(const float* x, int n, float outlier, QuantizedBlock* blocks) {
    constexpr float kLargest = 127 * 128 + 63;
    const int n_blocks = n / kBlock;
    float sum = 0;
    for (int b = 0; b < n_blocks; ++b) {
        blocks[b].scale = reduce_max(max(abs(load(x + b * kBlock)), abs(load(x + b * kBlock + kLanes))));
        sum += blocks[b].scale;
    }
    const float bound = outlier * sum / float(n_blocks);
    for (int b = 0; b < n_blocks; ++b) {
        QuantizedBlock& block = blocks[b];
        const float largest = block.scale, scale = largest * (1 / kLargest);
        block.wide = largest > bound ? 1 : 0;
        block.scale = scale;
        const float step = block.wide ? 1.0f : 128.0f;
        const F32 inverse = broadcast(largest > 0 ? kLargest / largest * (1 / step) : 0.0f);
        for (int half = 0; half < 2; ++half) {
            const F32 q = mul(round_nearest(mul(load(x + b * kBlock + half * kLanes), inverse)), broadcast(step));
            store_split(block.high + half * kLanes, block.low + half * kLanes, q);
            const float total = reduce_add(q);  // exact: below 2^24
            block.half_quants[half] = int32_t(total);
            block.half_sums[half] = scale * total;
        }
        block.quants = block.half_quants[0] + block.half_quants[1];
        block.sum = block.half_sums[0] + block.half_sums[1];
    }
}

static void to_bfloat(const float* x, int n, uint16_t* y) {
    for (int i = 0; i < n; ++i) y[i] = float_to_bfloat(x[i]);
}

static void to_half(const float* x, int n, uint16_t* y) {
    for (int i = 0; i < n; i += kLanes) store_half(y + i, load(x + i));
}

static float to_int8(const float* x, int n, int8_t* y) {
    F32 largest = zero();
    for (int i = 0; i < n; i += kLanes) largest = max(largest, abs(load(x + i)));
    const float top = reduce_max(largest);
    const F32 inverse = broadcast(top > 0 ? 127.0f / top : 0.0f);
    for (int i = 0; i < n; i += kLanes) store_i8(y + i, mul(load(x + i), inverse));
    return top * (1 / 127.0f);
}

// 1 / (1 + exp(-x)) as a divisor of what it would multiply
static inline F32 logistic_divisor(F32 x) { return add(broadcast(1.0f), exponential(sub(zero(), x))); }

// erfc(x) for x >= 0, to 1.2e-7 of itself (Chebyshev fit; Numerical Recipes, "erfcc").
static inline F32 complementary_error(F32 x) {
    const F32 t = div(broadcast(1.0f), fma(x, broadcast(0.5f), broadcast(1.0f)));
    F32 p = broadcast(0.17087277f);
    for (const float c : {-0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f, -0.18628806f, 0.09678418f, 0.37409196f,
                          1.00002368f, -1.26551223f})
        p = fma(p, t, broadcast(c));
    return mul(t, exponential(sub(p, mul(x, x))));
}

template <Activation activation>
static inline F32 activated(F32 x) {
    if constexpr (activation == Activation::silu) return div(x, logistic_divisor(x));
    if constexpr (activation == Activation::relu) return max(x, zero());
    if constexpr (activation == Activation::gelu) {  // x * normal cdf, without the cancellation of 1 + erf
        const F32 size = abs(x), tail = complementary_error(mul(size, broadcast(0.70710678118654752f)));
        return sub(max(x, zero()), mul(mul(size, broadcast(0.5f)), tail));
    }
    // (1 + tanh(u)) / 2 is the logistic function of 2 u.
    const F32 u = mul(x, fma(mul(x, x), broadcast(0.044715f), broadcast(1.0f)));
    return div(x, logistic_divisor(mul(u, broadcast(2 * 0.79788456080286536f))));
}

template <Activation activation>
static void activate_with(float* x, const float* up, int n) {
    for (int i = 0; i < n; i += kLanes) {
        const F32 y = activated<activation>(load(x + i));
        store(x + i, up ? mul(y, load(up + i)) : y);
    }
}

static void activate(Activation activation, float* x, const float* up, int n) {
    switch (activation) {
        case Activation::silu: return activate_with<Activation::silu>(x, up, n);
        case Activation::gelu: return activate_with<Activation::gelu>(x, up, n);
        case Activation::gelu_tanh: return activate_with<Activation::gelu_tanh>(x, up, n);
        case Activation::relu: return activate_with<Activation::relu>(x, up, n);
    }
}

static void soft_cap(float* x, int n, float cap) {
    const F32 one = broadcast(1.0f), factor = broadcast(cap), inverse = broadcast(2.0f / cap);
    for (int i = 0; i < n; i += kLanes) {  // tanh(x) = 1 - 2 / (1 + exp(2 x))
        const F32 e = exponential(mul(load(x + i), inverse));
        store(x + i, mul(factor, sub(one, div(broadcast(2.0f), add(one, e)))));
    }
}

static float max_of(const float* x, int n) {
    float top = x[0];
    F32 tops = broadcast(x[0]);
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) tops = max(tops, load(x + i));
    for (; i < n; ++i) top = std::max(top, x[i]);
    return std::max(top, reduce_max(tops));
}

static float exponentials(const float* x, float top, float scale, float* y, int n) {
    F32 sums = zero();
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const F32 e = exponential(mul(sub(load(x + i), broadcast(top)), broadcast(scale)));
        store(y + i, e);
        sums = add(sums, e);
    }
    float sum = reduce_add(sums);
    for (; i < n; ++i) sum += y[i] = std::exp((x[i] - top) * scale);
    return sum;
}
