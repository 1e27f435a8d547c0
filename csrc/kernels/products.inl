// Products of packed matrices with rows of activations.
//
// Every output lane is accumulated over columns in one order, whatever the tile: a token's result does not depend on what
// else is in the batch. Tiles only decide how often a weight is loaded.

// Blocks of `n_groups` groups times the same block of `n_tokens` rows: independent sums, and each broadcast of 4 activations
// serves all groups.
template <ProductForm form, int n_groups, int n_tokens>
struct BlockTile {
    const Block* weights[n_groups];
    const QuantizedBlock* rows[n_tokens];
    Dots<form.largest> dots[n_groups][n_tokens];

    // Adds vectors `begin` to `end`, 4 columns each, times the high or the low bytes.
    MADANG_TILE void add_dots(int begin, int end, bool high) {
#pragma GCC unroll 8
        for (int j = begin; j < end; ++j)
            for (int t = 0; t < n_tokens; ++t) {
                const Quad quad = load_quad((high ? rows[t]->high : rows[t]->low) + 4 * j);
                for (int g = 0; g < n_groups; ++g) {
                    if (form.is_signed)
                        dots[g][t].add_signed(weights[g]->quants[j], quad);
                    else
                        dots[g][t].add(weights[g]->quants[j], quad, j);
                }
            }
    }

    // One half, or the whole. Exact in integers, 128 * (weights . high bytes) + (weights . low bytes) - zero * sum, before
    // anything is rounded.
    template <bool any_wide>
    MADANG_TILE void accumulate(int half, F32 (&totals)[n_groups][n_tokens]) {
        const int begin = half * 4, end = form.has_halves ? begin + 4 : 8;
        for (auto& group : dots)
            for (auto& dot : group) dot = {};
        add_dots(begin, end, true);
        for (int t = 0; t < n_tokens; ++t) {
            const int32_t sum = form.zero * (form.has_halves ? rows[t]->half_quants[half] : rows[t]->quants);
            for (int g = 0; g < n_groups; ++g) {
                I32& dot = dots[g][t].sum;
                dot = times_128(dot);
                if (form.zero != 0) dot = minus(dot, sum);
            }
        }
        if (any_wide) add_dots(begin, end, false);
        for (int t = 0; t < n_tokens; ++t) {
            const F32 scale = broadcast(rows[t]->scale);
            for (int g = 0; g < n_groups; ++g) {
                F32& total = totals[g][t];
                total = fma(to_float(dots[g][t].sum), mul(weights[g]->scale[half], scale), total);
                if (form.has_min)
                    total = fma(weights[g]->min[half], broadcast(form.has_halves ? rows[t]->half_sums[half] : rows[t]->sum), total);
            }
        }
    }

    MADANG_TILE void accumulate(F32 (&totals)[n_groups][n_tokens]) {
        uint32_t wide = 0;
        for (const QuantizedBlock* row : rows) wide |= row->wide;
        for (int half = 0; half < (form.has_halves ? 2 : 1); ++half)
            if (wide)
                accumulate<true>(half, totals);
            else
                accumulate<false>(half, totals);
    }
};

// Sums over columns are taken up where those of earlier columns ended; nullptr is the first.
template <int n_groups, int n_tokens>
MADANG_TILE static inline void begin_totals(F32 (&totals)[n_groups][n_tokens], const F32* partial) {
    for (int g = 0; g < n_groups; ++g)
        for (int t = 0; t < n_tokens; ++t) totals[g][t] = partial ? partial[t * n_groups + g] : zero();
}

template <int n_groups, int n_tokens>
static inline void write_totals(const F32 (&totals)[n_groups][n_tokens], int group, int token, const Output& out) {
    for (int t = 0; t < n_tokens; ++t)
        for (int g = 0; g < n_groups; ++g) {
            float* p = out.data + size_t(token + t) * out.stride + (group + g) * kLanes;
            store(p, out.accumulate ? add(load(p), totals[g][t]) : totals[g][t]);
        }
}

template <int n_groups, int n_tokens>
MADANG_TILE static inline void end_totals(const F32 (&totals)[n_groups][n_tokens], bool is_last, F32* partial, int group, int token,
                                          const Output& out) {
    if (is_last || !partial) return write_totals(totals, group, token, out);
    for (int g = 0; g < n_groups; ++g)
        for (int t = 0; t < n_tokens; ++t) partial[t * n_groups + g] = totals[g][t];
}

// Room for the sums of a few groups and all tokens.
static F32* partial_totals(size_t n) {
    thread_local std::vector<F32> partial;
    if (partial.size() < n) partial.resize(n);
    return partial.data();
}

// GCC 12 drops calls of functions that only prefetch, as if they did nothing; hence always_inline.
// With few tokens, memory is the limit, and the planes of a group are too short for the hardware to see them as streams.
[[gnu::always_inline]] static inline void prefetch_ahead(const uint8_t* p, size_t n_bytes, const uint8_t* end) {
    constexpr size_t kAhead = 16384;  // bytes: memory latency times the rate at which one core reads (docs/log.md)
    if (p + kAhead + n_bytes > end) return;  // another thread's, or nobody's
    for (size_t i = 0; i < n_bytes; i += 64) prefetch(p + kAhead + i);
}

static void fetch(const uint8_t* p, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i += 64) prefetch_second_level(p + i);
}

// Weights that come next, asked for a little at a time: all at once would keep the loads of others waiting.
struct Upcoming {
    const uint8_t *at, *end;
    size_t step;  // bytes

    [[gnu::always_inline]] void fetch() {
        for (const uint8_t* stop = std::min(at + step, end); at < stop; at += 64) prefetch_second_level(at);
    }
};

// Few tokens: each block is unpacked on its way from memory.
template <Type type, int n_tokens>
static void multiply_few(const PackedMatrix& w, const Planes& planes, Range groups, int g, const Activations& a, int token, const Output& out) {
    const uint8_t *group = w.group(g), *end = w.group(groups.end);
    const int blocks = w.columns / kBlock, stride = a.stride / kBlock;
    const size_t bytes_per_block = w.group_bytes / size_t(blocks);
    F32 totals[1][n_tokens];
    for (F32& total : totals[0]) total = zero();
    for (int b = 0; b < blocks; ++b) {
        prefetch_ahead(group + size_t(b) * bytes_per_block, bytes_per_block, end);
        Block block;
        load_quants<type>(*w.traits, planes, group, b, block);
        load_scales<type>(*w.traits, planes, group, b, block);
        BlockTile<product_form<type>(), 1, n_tokens> tile;
        tile.weights[0] = &block;
        for (int t = 0; t < n_tokens; ++t) tile.rows[t] = a.blocks + size_t(token + t) * stride + b;
        tile.accumulate(totals);
    }
    write_totals(totals, g, token, out);
}

// Blocks of a few groups, unpacked for many tokens: as many columns at a time as a core keeps next to itself.
struct UnpackedBlocks {
    const Block* weights;  // of one group after the other
    Range blocks;
    bool is_last;

    template <ProductForm form, int n_groups, int n_tokens>
    void multiply(int g, const Activations& a, int token, F32* partial, Upcoming& upcoming, const Output& out) const {
        const int stride = a.stride / kBlock, n = blocks.end - blocks.begin;
        const QuantizedBlock* row = a.blocks + size_t(token) * stride + blocks.begin;
        F32 totals[n_groups][n_tokens];
        begin_totals(totals, blocks.begin == 0 ? nullptr : partial);
        for (int b = 0; b < n; ++b) {
            BlockTile<form, n_groups, n_tokens> tile;
            for (int i = 0; i < n_groups; ++i) tile.weights[i] = weights + i * n + b;
            for (int t = 0; t < n_tokens; ++t) tile.rows[t] = row + t * stride + b;
            upcoming.fetch();
            tile.accumulate(totals);
        }
        end_totals(totals, is_last, partial, g, token, out);
    }
};

// ---- float weights ---------------------------------------------------------------------------------------------------

template <Type type>
static inline F32 load_column(const uint8_t* group, int column) {
    if constexpr (type == Type::F16) return load_half((const uint16_t*)group + size_t(column) * kLanes);
    return load((const float*)group + size_t(column) * kLanes);
}

// n_groups x n_tokens independent sums hide the latency of one multiply-add after the other. Some columns; sums of earlier
// ones wait in `partial`.
template <Type type, int n_groups, int n_tokens>
[[gnu::always_inline]] static inline void multiply_float_tile(const PackedMatrix& w, int g, Range columns, const Activations& a, int token,
                                                              F32* partial, const Output& out) {
    F32 total[n_groups][n_tokens];
    begin_totals(total, columns.begin == 0 ? nullptr : partial);
    const float* floats = a.floats + size_t(token) * a.stride;
    [[maybe_unused]] const uint16_t* bfloats = a.bfloats + size_t(token) * a.stride;
    if constexpr (type == Type::BF16) {
        for (int c = columns.begin; c < columns.end; c += 2)
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
        for (int c = columns.begin; c < columns.end; ++c)
            for (int r = 0; r < n_groups; ++r) {
                const F32 column = load_column<type>(w.group(g + r), c);
                for (int t = 0; t < n_tokens; ++t)
                    total[r][t] = fma(column, broadcast(floats[size_t(t) * a.stride + c]), total[r][t]);
            }
    }
    end_totals(total, columns.end == w.columns, partial, g, token, out);
}

// ---- tiling ----------------------------------------------------------------------------------------------------------

// Calls tile.operator()<n>(t) for tokens in tiles of `largest`, the rest in tiles of 4, 2 and 1.
template <int largest, class Tile>
static inline void for_tiles(Range tokens, Tile tile) {
    int t = tokens.begin;
    for (; t + largest <= tokens.end; t += largest) tile.template operator()<largest>(t);
    if (largest > 4 && t + 4 <= tokens.end) tile.template operator()<4>(t), t += 4;
    if (largest > 2 && t + 2 <= tokens.end) tile.template operator()<2>(t), t += 2;
    if (t < tokens.end) tile.template operator()<1>(t);
}

// n_groups groups at a time.
template <Type type, int n_groups>
static void unpack_and_multiply(const PackedMatrix& w, const Planes& planes, Range groups, int g, const Activations& a, Range tokens, const Output& out) {
    const int blocks = w.columns / kBlock, parts = (blocks + kUnpackedBlocks - 1) / kUnpackedBlocks;
    const int n_tokens = tokens.end - tokens.begin, rounds = blocks * ((n_tokens + kTokens - 1) / kTokens);
    const uint8_t* next = w.group(g + n_groups);
    Upcoming upcoming{next, std::min(next + n_groups * w.group_bytes, w.group(groups.end)), n_groups * w.group_bytes / size_t(rounds) + 63};
    alignas(64) Block weights[n_groups * kUnpackedBlocks];
    F32* partial = partial_totals(size_t(n_groups) * size_t(n_tokens));
    for (int part = 0; part < parts; ++part) {
        const Range own{blocks * part / parts, blocks * (part + 1) / parts};
        Block* block = weights;
        for (int i = 0; i < n_groups; ++i)
            for (int b = own.begin; b < own.end; ++b, ++block) {
                load_quants<type>(*w.traits, planes, w.group(g + i), b, *block);
                load_scales<type>(*w.traits, planes, w.group(g + i), b, *block);
            }
        const UnpackedBlocks unpacked{weights, own, part + 1 == parts};
        for_tiles<kTokens>(tokens, [&]<int n>(int t) {
            unpacked.template multiply<product_form<type>(), n_groups, n>(g, a, t, partial + n_groups * (t - tokens.begin), upcoming, out);
        });
    }
}

template <Type type>
static void multiply_quantized(const PackedMatrix& w, Range groups, const Activations& a, Range tokens, const Output& out) {
    const Planes planes(*w.traits, w.columns);
    int g = groups.begin;
    if (tokens.end - tokens.begin > kFewTokens) {
        for (; g + kGroups <= groups.end; g += kGroups) unpack_and_multiply<type, kGroups>(w, planes, groups, g, a, tokens, out);
        if (kGroups > 2 && g + 2 <= groups.end) unpack_and_multiply<type, 2>(w, planes, groups, g, a, tokens, out), g += 2;
        for (; g < groups.end; ++g) unpack_and_multiply<type, 1>(w, planes, groups, g, a, tokens, out);
    } else {
        for (; g < groups.end; ++g)
            for_tiles<kFewTile>(tokens, [&]<int n>(int t) { multiply_few<type, n>(w, planes, groups, g, a, t, out); });
    }
}

template <Type type, int n_groups, int n_tokens>
static void multiply_float_groups(const PackedMatrix& w, Range groups, const Activations& a, int token, const Output& out) {
    const Range columns{0, w.columns};
    int g = groups.begin;
    for (; g + n_groups <= groups.end; g += n_groups) multiply_float_tile<type, n_groups, n_tokens>(w, g, columns, a, token, nullptr, out);
    for (; g < groups.end; ++g) multiply_float_tile<type, 1, n_tokens>(w, g, columns, a, token, nullptr, out);
}

// Many tokens, in whole tiles: as much of a few groups at a time as stays next to the core.
template <Type type, int n_groups, int n_tokens>
static void multiply_float_many(const PackedMatrix& w, int g, const Activations& a, Range tokens, const Output& out) {
    F32* partial = partial_totals(size_t(n_groups) * size_t(tokens.end - tokens.begin));
    constexpr int kColumns = kFloatBytes / (kLanes * kFloatGroups * (type == Type::F32 ? 4 : 2));
    const int parts = (w.columns + kColumns - 1) / kColumns;
    const int even = int(round_up(size_t(w.columns + parts - 1) / size_t(parts), 2));
    for (int begin = 0; begin < w.columns; begin += even)
        for (int t = tokens.begin; t < tokens.end; t += n_tokens)
            multiply_float_tile<type, n_groups, n_tokens>(w, g, {begin, std::min(begin + even, w.columns)}, a, t,
                                                          partial + n_groups * (t - tokens.begin), out);
}

// Few: each weight is read once.
template <Type type>
static void multiply_float(const PackedMatrix& w, Range groups, const Activations& a, Range tokens, const Output& out) {
    constexpr int kTile = type == Type::BF16 && !kHasBfloatDot ? 4 : kFloatTokens;  // taking pairs apart needs registers
    const int whole = tokens.begin + (tokens.end - tokens.begin) / kTile * kTile;
    if (whole > tokens.begin) {
        int g = groups.begin;
        for (; g + kFloatGroups <= groups.end; g += kFloatGroups)
            multiply_float_many<type, kFloatGroups, kTile>(w, g, a, {tokens.begin, whole}, out);
        for (; g < groups.end; ++g) multiply_float_many<type, 1, kTile>(w, g, a, {tokens.begin, whole}, out);
    }
    for_tiles<4>({whole, tokens.end}, [&]<int n>(int rest) {
        multiply_float_groups<type, n == 4 ? kFewGroups : 4, n>(w, groups, a, rest, out);
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
