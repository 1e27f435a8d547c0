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
        const F32 inverse = broadcast(largest > 0 ? kLargest / largest / step : 0.0f);
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

static void silu_multiply(float* gate, const float* up, int n) {
    const F32 one = broadcast(1.0f);
    for (int i = 0; i < n; i += kLanes) {
        const F32 x = load(gate + i);
        store(gate + i, mul(div(x, add(one, exponential(sub(zero(), x)))), load(up + i)));
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
