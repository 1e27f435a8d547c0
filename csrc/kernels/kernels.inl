// The kernels, written once in terms of the 16-lane vocabulary of simd_*.h. Include inside a namespace, after that header.
//
// Every output lane is accumulated over columns in one order, whatever the tile: a token's result does not depend on what
// else is in the batch. Tiles only decide how often a weight is loaded.

// ---- quantized weights -----------------------------------------------------------------------------------------------

// One block of 16 rows x 32 columns, unpacked: value = scale * quant + min, per half block of 16 columns for Q6_K.
struct Block {
    Bytes quants[8];
    F32 scale[2], min[2];
};

template <Type type>
constexpr bool kSigned8 = type == Type::Q8_0;
template <Type type>
constexpr bool kHalves = type == Type::Q6_K;

template <Type type>
static inline void load_quants(const TypeTraits& traits, const Planes& planes, const uint8_t* group, int b, Block& block) {
    const uint8_t* quants = group + planes.quants + size_t(b) * traits.quants;
    if constexpr (kSigned8<type>) {
        for (int j = 0; j < 8; ++j) block.quants[j] = prepare_signed(load_bytes(quants + 64 * j));
        return;
    }
    for (int j = 0; j < 4; ++j) {
        const Bytes packed = load_bytes(quants + 64 * j);
        block.quants[j] = low_nibbles(packed);
        block.quants[j + 4] = high_nibbles(packed);
    }
    const uint8_t* high = group + planes.high + size_t(b) * traits.high;
    if constexpr (type == Type::Q5_0 || type == Type::Q5_1 || type == Type::Q5_K)
        for (int j = 0; j < 8; ++j) block.quants[j] = with_fifth_bits(block.quants[j], high + 8 * j);
    if constexpr (type == Type::Q6_K)
        for (int v = 0; v < 2; ++v) {
            const Bytes pairs = load_bytes(high + 64 * v);
            Bytes* q = block.quants + 4 * v;
            q[0] = with_pairs<0>(q[0], pairs);
            q[1] = with_pairs<1>(q[1], pairs);
            q[2] = with_pairs<2>(q[2], pairs);
            q[3] = with_pairs<3>(q[3], pairs);
        }
}

template <Type type>
static inline void load_scales(const TypeTraits& traits, const Planes& planes, const uint8_t* group, int b, Block& block) {
    const uint8_t* scales = group + planes.scales + size_t(b) * traits.scales;
    const uint8_t* mins = group + planes.mins + size_t(b) * traits.mins;
    const uint8_t* supers = group + planes.supers + size_t(b / kSuperBlocks) * traits.supers;
    if constexpr (type == Type::Q6_K) {
        const F32 super = load_half((const uint16_t*)supers);
        for (int h = 0; h < 2; ++h) {
            block.scale[h] = mul(super, load_i8(scales + 16 * h));
            block.min[h] = mul(block.scale[h], broadcast(-32));
        }
    } else if constexpr (type == Type::Q4_K || type == Type::Q5_K) {
        block.scale[0] = mul(load_half((const uint16_t*)supers), load_u8(scales));
        block.min[0] = sub(zero(), mul(load_half((const uint16_t*)(supers + 32)), load_u8(mins)));
    } else {
        block.scale[0] = load_half((const uint16_t*)scales);
        if constexpr (type == Type::Q4_1 || type == Type::Q5_1)
            block.min[0] = load_half((const uint16_t*)mins);
        else
            block.min[0] = mul(block.scale[0], broadcast(type == Type::Q4_0 ? -8 : type == Type::Q5_0 ? -16 : -kSignedZero));
    }
}

template <Type type>
static inline I32 dot_vectors(I32 sum, const Block& block, int begin, int end, const int8_t* quants) {
    for (int j = begin; j < end; ++j)
        sum = kSigned8<type> ? dot4_signed(sum, block.quants[j], quants + 4 * j) : dot4(sum, block.quants[j], quants + 4 * j);
    return sum;
}

// Exact in integers: 128 * (weights . high bytes) + (weights . low bytes).
template <Type type, bool wide>
static inline F32 dot_block(const Block& block, int begin, int end, const int8_t* quants) {
    const I32 high = times_128(dot_vectors<type>(zero_int(), block, begin, end, quants));
    return to_float(wide ? dot_vectors<type>(high, block, begin, end, quants + kBlock) : high);
}

template <Type type, bool wide>
static inline F32 accumulate_block(const Block& block, const int8_t* quants, const float* scale, const float* sums, F32 sum) {
    constexpr bool has_min = !kSigned8<type> || kSignedZero != 0;
    constexpr int first_half = kHalves<type> ? 4 : 8;
    const F32 a = broadcast(*scale);
    sum = fma(mul(dot_block<type, wide>(block, 0, first_half, quants), block.scale[0]), a, sum);
    if constexpr (kHalves<type>) {
        sum = fma(mul(dot_block<type, wide>(block, 4, 8, quants), block.scale[1]), a, sum);
        sum = fma(block.min[0], broadcast(sums[0]), sum);
        sum = fma(block.min[1], broadcast(sums[1]), sum);
    } else if constexpr (has_min) {
        sum = fma(block.min[0], broadcast(sums[0] + sums[1]), sum);
    }
    return sum;
}

// With few tokens, memory is the limit, and the planes of a group are too short for the hardware to see them as streams.
static inline void prefetch_ahead(const uint8_t* p, size_t n_bytes) {
    constexpr size_t kAhead = 16384;  // bytes: memory latency times the rate at which one core reads (docs/log.md)
    for (size_t i = 0; i < n_bytes; i += 64) prefetch(p + kAhead + i);
}

// A tile of tokens within the activations: where its first row begins in each array.
struct QuantizedTile {
    const int8_t* quants;
    const float *scales, *sums;
    const uint8_t* wide;  // per block: whether any of the tile's rows is wide there
    int stride;

    template <Type type, bool any_wide>
    F32 accumulate(const Block& block, int b, int t, F32 sum) const {
        const int row = t * (stride / kBlock) + b;
        return accumulate_block<type, any_wide>(block, quants + row * 2 * kBlock, scales + row, sums + 2 * row, sum);
    }
};

template <Type type, int n_tokens>
static inline void multiply_quantized_tile(const PackedMatrix& w, const Planes& planes, int g, const QuantizedTile& tile,
                                           int token, const Output& out) {
    const uint8_t* group = w.group(g);
    const int blocks = w.columns / kBlock;
    const size_t bytes_per_block = w.group_bytes / size_t(blocks);
    F32 total[n_tokens];
    for (F32& sum : total) sum = zero();
    for (int b = 0; b < blocks; ++b) {
        if constexpr (n_tokens <= 2) prefetch_ahead(group + size_t(b) * bytes_per_block, bytes_per_block);
        Block block;
        load_quants<type>(*w.traits, planes, group, b, block);
        load_scales<type>(*w.traits, planes, group, b, block);
        if (tile.wide[b])
            for (int t = 0; t < n_tokens; ++t) total[t] = tile.accumulate<type, true>(block, b, t, total[t]);
        else
            for (int t = 0; t < n_tokens; ++t) total[t] = tile.accumulate<type, false>(block, b, t, total[t]);
    }
    for (int t = 0; t < n_tokens; ++t) {
        float* p = out.data + size_t(token + t) * out.stride + g * kLanes;
        store(p, out.accumulate ? add(load(p), total[t]) : total[t]);
    }
}

// ---- float weights ---------------------------------------------------------------------------------------------------

template <Type type>
static inline F32 load_column(const uint8_t* group, int column) {
    if constexpr (type == Type::F16) return load_half((const uint16_t*)group + size_t(column) * kLanes);
    return load((const float*)group + size_t(column) * kLanes);
}

// n_groups x n_tokens independent sums hide the latency of one multiply-add after the other.
template <Type type, int n_groups, int n_tokens>
static void multiply_float_tile(const PackedMatrix& w, int g, const Activations& a, int token, const Output& out) {
    F32 total[n_groups][n_tokens];
    for (auto& row : total)
        for (F32& sum : row) sum = zero();
    const float* floats = a.floats + size_t(token) * a.stride;
    [[maybe_unused]] const uint16_t* bfloats = a.bfloats + size_t(token) * a.stride;
    if constexpr (type == Type::BF16) {
        for (int c = 0; c < w.columns; c += 2)
            for (int r = 0; r < n_groups; ++r) {
                const Pairs pairs = load_pairs(w.group(g + r) + size_t(c) * kLanes * 2);
                for (int t = 0; t < n_tokens; ++t) {
                    if constexpr (kHasBfloatDot) {
                        total[r][t] = dot2(total[r][t], pairs, bfloats + size_t(t) * a.stride + c);
                    } else {
                        const float* x = floats + size_t(t) * a.stride + c;
                        total[r][t] = fma(even_of(pairs), broadcast(x[0]), total[r][t]);
                        total[r][t] = fma(odd_of(pairs), broadcast(x[1]), total[r][t]);
                    }
                }
            }
    } else {
        for (int c = 0; c < w.columns; ++c)
            for (int r = 0; r < n_groups; ++r) {
                const F32 column = load_column<type>(w.group(g + r), c);
                for (int t = 0; t < n_tokens; ++t)
                    total[r][t] = fma(column, broadcast(floats[size_t(t) * a.stride + c]), total[r][t]);
            }
    }
    for (int r = 0; r < n_groups; ++r)
        for (int t = 0; t < n_tokens; ++t) {
            float* p = out.data + size_t(token + t) * out.stride + (g + r) * kLanes;
            store(p, out.accumulate ? add(load(p), total[r][t]) : total[r][t]);
        }
}

// ---- tiling ----------------------------------------------------------------------------------------------------------

// Tokens in tiles of kTokenTile, the rest in tiles of 4, 2 and 1.
template <class Tile>
static inline void for_token_tiles(Range tokens, Tile tile) {
    int t = tokens.begin;
    for (; t + kTokenTile <= tokens.end; t += kTokenTile) tile.template operator()<kTokenTile>(t);
    if (kTokenTile > 4 && t + 4 <= tokens.end) tile.template operator()<4>(t), t += 4;
    if (t + 2 <= tokens.end) tile.template operator()<2>(t), t += 2;
    if (t < tokens.end) tile.template operator()<1>(t);
}

template <Type type>
static void multiply_quantized(const PackedMatrix& w, Range groups, const Activations& a, Range tokens, const Output& out) {
    const Planes planes(*w.traits, w.columns);
    const size_t blocks = size_t(a.stride) / kBlock;
    uint8_t wide[kMaxColumns / kBlock];
    for_token_tiles(tokens, [&]<int n>(int token) {
        const uint8_t* rows = a.wide + token * blocks;
        if (n > 1) {
            std::memcpy(wide, rows, blocks);
            for (int t = 1; t < n; ++t)
                for (size_t b = 0; b < blocks; ++b) wide[b] |= rows[t * blocks + b];
        }
        const QuantizedTile tile{a.quants + token * blocks * 2 * kBlock, a.scales + token * blocks, a.sums + token * blocks * 2,
                                 n > 1 ? wide : rows, a.stride};
        for (int g = groups.begin; g < groups.end; ++g) multiply_quantized_tile<type, n>(w, planes, g, tile, token, out);
    });
}

template <Type type>
static void multiply_float(const PackedMatrix& w, Range groups, const Activations& a, Range tokens, const Output& out) {
    for_token_tiles(tokens, [&]<int n>(int t) {
        constexpr int together = n >= 8 ? 1 : n >= 4 ? 2 : 4;
        int g = groups.begin;
        for (; g + together <= groups.end; g += together) multiply_float_tile<type, together, n>(w, g, a, t, out);
        for (; g < groups.end; ++g) multiply_float_tile<type, 1, n>(w, g, a, t, out);
    });
}

static void multiply(const PackedMatrix& w, Range groups, const Activations& a, Range tokens, const Output& out) {
    switch (w.type()) {
        case Type::F32: multiply_float<Type::F32>(w, groups, a, tokens, out); break;
        case Type::F16: multiply_float<Type::F16>(w, groups, a, tokens, out); break;
        case Type::BF16: multiply_float<Type::BF16>(w, groups, a, tokens, out); break;
        case Type::Q4_0: multiply_quantized<Type::Q4_0>(w, groups, a, tokens, out); break;
        case Type::Q4_1: multiply_quantized<Type::Q4_1>(w, groups, a, tokens, out); break;
        case Type::Q5_0: multiply_quantized<Type::Q5_0>(w, groups, a, tokens, out); break;
        case Type::Q5_1: multiply_quantized<Type::Q5_1>(w, groups, a, tokens, out); break;
        case Type::Q8_0: multiply_quantized<Type::Q8_0>(w, groups, a, tokens, out); break;
        case Type::Q4_K: multiply_quantized<Type::Q4_K>(w, groups, a, tokens, out); break;
        case Type::Q5_K: multiply_quantized<Type::Q5_K>(w, groups, a, tokens, out); break;
        case Type::Q6_K: multiply_quantized<Type::Q6_K>(w, groups, a, tokens, out); break;
    }
}

// ---- rows ------------------------------------------------------------------------------------------------------------

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

static void quantize(const float* x, int n, float outlier, const QuantizedRow& out) {
    constexpr float kLargest = 127 * 128 + 63;
    const int blocks = n / kBlock;
    float sum = 0;
    for (int b = 0; b < blocks; ++b) {
        out.scales[b] = reduce_max(max(abs(load(x + b * kBlock)), abs(load(x + b * kBlock + kLanes))));
        sum += out.scales[b];
    }
    for (int b = 0; b < blocks; ++b) {
        const float largest = out.scales[b], scale = largest / kLargest;
        out.wide[b] = largest > outlier * sum / float(blocks);
        out.scales[b] = scale;
        const float step = out.wide[b] ? 1.0f : 128.0f;
        const F32 inverse = broadcast(largest > 0 ? kLargest / largest / step : 0.0f);
        for (int half = 0; half < 2; ++half) {
            const F32 q = mul(round_nearest(mul(load(x + b * kBlock + half * kLanes), inverse)), broadcast(step));
            int8_t* high = out.quants + b * 2 * kBlock + half * kLanes;
            store_split(high, high + kBlock, q);
            out.sums[2 * b + half] = scale * reduce_add(q);
        }
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

// ---- attention -------------------------------------------------------------------------------------------------------

// scores[q][16 positions of each page] = queries . keys, for n_pages pages at once
template <int n_pages, int n_queries>
static inline void score_pages(const AttentionTile& tile, const uint16_t* const* keys, int q, float* scores) {
    F32 total[n_pages][n_queries];
    for (auto& row : total)
        for (F32& sum : row) sum = zero();
    const float* queries[n_queries];
    for (int i = 0; i < n_queries; ++i) queries[i] = tile.queries[q + i];
    const int head_dim = tile.head_dim;
    for (int d = 0; d < head_dim; ++d) {
        F32 key[n_pages];
        for (int p = 0; p < n_pages; ++p) key[p] = load_half(keys[p] + d * kPageTokens);
        for (int i = 0; i < n_queries; ++i) {
            const F32 query = broadcast(queries[i][d]);
            for (int p = 0; p < n_pages; ++p) total[p][i] = fma(key[p], query, total[p][i]);
        }
    }
    for (int p = 0; p < n_pages; ++p)
        for (int i = 0; i < n_queries; ++i) store(scores + (q + i) * kPartition + p * kPageTokens, total[p][i]);
}

// Calls tile.operator()<n>(q) for queries in tiles of `largest`, then 2 and 1.
template <int largest, class Tile>
static inline void for_query_tiles(int n_queries, Tile tile) {
    int q = 0;
    for (; q + largest <= n_queries; q += largest) tile.template operator()<largest>(q);
    if (largest > 4 && q + 4 <= n_queries) tile.template operator()<4>(q), q += 4;
    if (largest > 3 && q + 3 <= n_queries) tile.template operator()<3>(q), q += 3;
    if (q + 2 <= n_queries) tile.template operator()<2>(q), q += 2;
    if (q < n_queries) tile.template operator()<1>(q);
}

static inline const uint16_t* page_at(const AttentionTile& tile, int page, size_t offset) {
    return tile.pages[tile.page_table[page]] + offset;
}

// Pages lie far apart, so the hardware does not see the next one coming.
static inline void prefetch_half_page(const uint16_t* p, int elements) {
    for (int i = 0; i < elements; i += 32) prefetch((const uint8_t*)(p + i));
}

static void score_partition(const AttentionTile& tile, int begin, int end, float* scores) {
    const int first = begin / kPageTokens, pages = (end - begin + kPageTokens - 1) / kPageTokens;
    int p = 0;
    for (; p + 2 <= pages; p += 2) {
        for (int next = p + 4; next < std::min(p + 6, pages); ++next)
            prefetch_half_page(page_at(tile, first + next, tile.key_offset), tile.head_dim * kPageTokens);
        for (int now = p; now < p + 2; ++now)
            prefetch_half_page(page_at(tile, first + now, tile.value_offset), tile.value_stride * kPageTokens);
        const uint16_t* keys[2] = {page_at(tile, first + p, tile.key_offset), page_at(tile, first + p + 1, tile.key_offset)};
        for_query_tiles<4>(tile.n_queries, [&]<int n>(int q) { score_pages<2, n>(tile, keys, q, scores + p * kPageTokens); });
    }
    if (p < pages) {
        const uint16_t* keys[1] = {page_at(tile, first + p, tile.key_offset)};
        for_query_tiles<8>(tile.n_queries, [&]<int n>(int q) { score_pages<1, n>(tile, keys, q, scores + p * kPageTokens); });
    }
}

// Scores of one query become weights (0 where masked); returns their maximum and sum.
static inline void soften(float* scores, int begin, int n, int first, int last, float& top, float& sum) {
    for (int i = 0; i < std::min(n, first - begin); ++i) scores[i] = -INFINITY;
    for (int i = std::max(0, last + 1 - begin); i < n; ++i) scores[i] = -INFINITY;
    F32 tops = broadcast(-INFINITY);
    for (int i = 0; i < n; i += kLanes) tops = max(tops, load(scores + i));
    top = reduce_max(tops);
    F32 sums = zero();
    for (int i = 0; i < n; i += kLanes) {
        const F32 e = exponential(sub(load(scores + i), broadcast(top)));
        store(scores + i, e);
        sums = add(sums, e);
    }
    sum = reduce_add(sums);
}

// out[q] = sum over positions of weight * value, for n_vectors x 16 elements of the head
template <int n_vectors, int n_queries>
static inline void weigh_values(const AttentionTile& tile, int begin, int end, const float* weights, int q, int d, float* out,
                                int out_stride) {
    F32 total[n_queries][n_vectors];
    for (auto& row : total)
        for (F32& sum : row) sum = zero();
    for (int position = begin; position < end;) {
        const int page_end = std::min(end, (position / kPageTokens + 1) * kPageTokens), stride = tile.value_stride;
        const uint16_t* value = page_at(tile, position / kPageTokens, tile.value_offset) + position % kPageTokens * stride + d;
        const float* weight = weights + q * kPartition + position % kPartition;
        for (; position < page_end; ++position, value += stride, ++weight) {
            F32 values[n_vectors];
            for (int v = 0; v < n_vectors; ++v) values[v] = load_half(value + v * kLanes);
            for (int i = 0; i < n_queries; ++i) {
                const F32 w = broadcast(weight[i * kPartition]);
                for (int v = 0; v < n_vectors; ++v) total[i][v] = fma(w, values[v], total[i][v]);
            }
        }
    }
    for (int i = 0; i < n_queries; ++i)
        for (int v = 0; v < n_vectors; ++v) store(out + (q + i) * out_stride + d + v * kLanes, total[i][v]);
}

static inline void weigh_partition(const AttentionTile& tile, int begin, int end, const float* weights, float* out, int out_stride) {
    for_query_tiles<4>(tile.n_queries, [&]<int n>(int q) {
        int d = 0;
        for (; d + 4 * kLanes <= tile.value_stride; d += 4 * kLanes) weigh_values<4, n>(tile, begin, end, weights, q, d, out, out_stride);
        for (; d < tile.value_stride; d += kLanes) weigh_values<1, n>(tile, begin, end, weights, q, d, out, out_stride);
    });
}

// A running softmax of one query over partitions, merged left to right (arXiv:2205.14135).
struct Running {
    float top = -INFINITY, sum = 0;
};

static inline void merge(Running& running, float top, float sum, const float* part, float* total, int n) {
    const float highest = std::max(running.top, top);
    float factors[kLanes] = {};
    factors[0] = running.top - highest;
    factors[1] = top - highest;
    store(factors, exponential(load(factors)));
    const F32 keep = broadcast(factors[0]), take = broadcast(factors[1]);
    for (int d = 0; d < n; d += kLanes) store(total + d, fma(load(part + d), take, mul(load(total + d), keep)));
    running = {highest, running.sum * factors[0] + sum * factors[1]};
}

static void attend(const AttentionTile& tile) {
    const int n = int(round_up(tile.head_dim, kLanes));
    float* scores = tile.scratch;
    float* part = scores + kMaxQueryTile * kPartition;
    float* total = part + n * kMaxQueryTile;
    Running running[kMaxQueryTile];
    std::fill(total, total + n * tile.n_queries, 0.0f);
    const int first = *std::min_element(tile.first, tile.first + tile.n_queries);
    const int end = *std::max_element(tile.last, tile.last + tile.n_queries) + 1;
    for (int begin = first / kPartition * kPartition; begin < end; begin += kPartition) {
        const int stop = std::min(begin + kPartition, end);
        const int padded = int(round_up(stop - begin, kPageTokens));
        score_partition(tile, begin, stop, scores);
        float tops[kMaxQueryTile], sums[kMaxQueryTile];
        for (int q = 0; q < tile.n_queries; ++q)
            soften(scores + q * kPartition, begin, padded, tile.first[q], tile.last[q], tops[q], sums[q]);
        weigh_partition(tile, std::max(begin, first), stop, scores, part, n);
        for (int q = 0; q < tile.n_queries; ++q)  // a partition that a query does not see must leave no trace in it
            if (tile.last[q] >= begin && tile.first[q] < stop) merge(running[q], tops[q], sums[q], part + q * n, total + q * n, n);
    }
    for (int q = 0; q < tile.n_queries; ++q)
        for (int d = 0; d < tile.head_dim; ++d) tile.outputs[q][d] = total[q * n + d] / running[q].sum;
}

#define MADANG_KERNEL_TABLE(name)                                                                                          \
    { name, kHasBfloatDot, multiply, rms_norm, quantize, to_bfloat, silu_multiply, attend, to_half, max_of, exponentials }
