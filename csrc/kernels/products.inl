// Products of packed matrices with rows of activations.
//
// Every output lane is accumulated over columns in one order, whatever the tile: a token's result does not depend on what
// else is in the batch. Tiles only decide how often a weight is loaded.

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
        case Type::Q2_K: multiply_quantized<Type::Q2_K>(w, groups, a, tokens, out); break;
        case Type::Q3_K: multiply_quantized<Type::Q3_K>(w, groups, a, tokens, out); break;
        case Type::TQ2_0: multiply_quantized<Type::TQ2_0>(w, groups, a, tokens, out); break;
        case Type::IQ4_NL: multiply_quantized<Type::IQ4_NL>(w, groups, a, tokens, out); break;
        case Type::IQ4_XS: multiply_quantized<Type::IQ4_XS>(w, groups, a, tokens, out); break;
        case Type::MXFP4: multiply_quantized<Type::MXFP4>(w, groups, a, tokens, out); break;
        case Type::IQ2_XXS: multiply_quantized<Type::IQ2_XXS>(w, groups, a, tokens, out); break;
        case Type::IQ2_XS: multiply_quantized<Type::IQ2_XS>(w, groups, a, tokens, out); break;
        default: break;  // no matrix lies in memory as any other
    }
}
