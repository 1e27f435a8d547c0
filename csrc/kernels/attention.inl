// Attention of a tile of queries over the paged cache, whose elements are float16 or int8. Int8 keys are multiplied like the
// weights of a matrix; of int8 values, the scales go into the weights of the softmax.

static inline F32 load_element(const uint16_t* p) { return load_half(p); }
static inline F32 load_element(const int8_t* p) { return load_i8((const uint8_t*)p); }

static inline const uint8_t* page_at(const AttentionTile& tile, int page, size_t offset) {
    return tile.pages[tile.page_table[page]] + offset;
}

template <int n_pages, int n_queries>
static inline void write_scores(const F32 (&totals)[n_pages][n_queries], int q, float* scores) {
    for (int p = 0; p < n_pages; ++p)
        for (int i = 0; i < n_queries; ++i) store(scores + (q + i) * kPartition + p * kPageTokens, totals[p][i]);
}

// Scores of queries from q on with 16 positions of each of n_pages pages: scores[query][position].
struct HalfScores {
    const AttentionTile& tile;

    template <int n_pages, int n_queries>
    void run(const uint8_t* const* keys, int q, float* scores) const {
        F32 totals[n_pages][n_queries];
        for (auto& row : totals)
            for (F32& total : row) total = zero();
        const float* queries[n_queries];
        for (int i = 0; i < n_queries; ++i) queries[i] = tile.queries[q + i];
        const int head_dim = tile.head_dim;
        for (int d = 0; d < head_dim; ++d) {
            F32 key[n_pages];
            for (int p = 0; p < n_pages; ++p) key[p] = load_half((const uint16_t*)keys[p] + d * kPageTokens);
            for (int i = 0; i < n_queries; ++i) {
                const F32 query = broadcast(queries[i][d]);
                for (int p = 0; p < n_pages; ++p) totals[p][i] = fma(key[p], query, totals[p][i]);
            }
        }
        write_scores(totals, q, scores);
    }
};

// The same with queries of 15 bits (QuantizedBlock), in integers within a group of 32 elements.
struct Int8Scores {
    static constexpr ProductForm kForm{.has_halves = false, .has_min = false, .is_signed = true, .largest = 255, .zero = kSignedZero};
    int groups;
    QuantizedBlock* queries;  // [query][group]

    // `padded` has room for one query, filled up to whole groups.
    Int8Scores(const AttentionTile& tile, float* padded, float* memory)
        : groups(key_groups(tile.head_dim)), queries(reinterpret_cast<QuantizedBlock*>(memory)) {
        std::fill(padded, padded + groups * kBlock, 0.0f);
        for (int q = 0; q < tile.n_queries; ++q) {
            std::copy(tile.queries[q], tile.queries[q] + tile.head_dim, padded);
            quantize(padded, groups * kBlock, 0, queries + q * groups);
        }
    }

    template <int n_pages, int n_queries>
    void run(const uint8_t* const* keys, int q, float* scores) const {
        F32 totals[n_pages][n_queries];
        for (auto& row : totals)
            for (F32& total : row) total = zero();
        for (int b = 0; b < groups; ++b) {
            Block blocks[n_pages];
            BlockTile<kForm, n_pages, n_queries> product;
            for (int p = 0; p < n_pages; ++p) {
                for (int j = 0; j < 8; ++j) blocks[p].quants[j] = prepare_signed(load_bytes(keys[p] + (b * 8 + j) * 64));
                blocks[p].scale[0] = load((const float*)(keys[p] + groups * 8 * 64) + b * kPageTokens);
                product.weights[p] = &blocks[p];
            }
            for (int i = 0; i < n_queries; ++i) product.rows[i] = queries + (q + i) * groups + b;
            product.accumulate(totals);
        }
        write_scores(totals, q, scores);
    }
};

// Calls tile.operator()<n>(q) for queries in tiles of kQueryTile, and of 4 or less where that leaves a better rest.
template <class Tile>
static inline void for_query_tiles(int n_queries, Tile tile) {
    for (int q = 0; q < n_queries;) {
        const int left = n_queries - q;
        if (left == kQueryTile || left > kQueryTile + 2) tile.template operator()<kQueryTile>(q), q += kQueryTile;
        else if (kQueryTile > 4 && left >= 4) tile.template operator()<4>(q), q += 4;
        else if (left >= 3) tile.template operator()<3>(q), q += 3;
        else if (left == 2) tile.template operator()<2>(q), q += 2;
        else tile.template operator()<1>(q), q += 1;
    }
}

// Pages lie far apart, so the hardware does not see the next one coming.
[[gnu::always_inline]] static inline void prefetch_bytes(const uint8_t* p, size_t n) {
    for (size_t i = 0; i < n; i += 64) prefetch(p + i);
}

[[gnu::always_inline]] static inline void prefetch_pages(const AttentionTile& tile, int page, int end) {
    const size_t positions = size_t(tile.value_stride) * kPageTokens;
    const size_t value_bytes = tile.kv_type == KvType::int8 ? positions + kPageTokens * sizeof(float) : positions * sizeof(uint16_t);
    for (int next = page + 2 * kScorePages; next < std::min(page + 3 * kScorePages, end); ++next)
        prefetch_bytes(page_at(tile, next, tile.key_offset), tile.value_offset - tile.key_offset);
    for (int now = page; now < page + kScorePages; ++now)
        prefetch_bytes(page_at(tile, now, tile.value_offset), value_bytes);
}

template <class Scores>
static void score_partition(const AttentionTile& tile, const Scores& how, int begin, int end, float* scores) {
    const int first = begin / kPageTokens, pages = (end - begin + kPageTokens - 1) / kPageTokens;
    const bool one_token = tile.last[0] == tile.last[tile.n_queries - 1];  // then memory is the limit
    const auto score = [&]<int n_pages>(int p) {
        const uint8_t* keys[n_pages];
        for (int i = 0; i < n_pages; ++i) keys[i] = page_at(tile, first + p + i, tile.key_offset);
        for_query_tiles(tile.n_queries, [&]<int n>(int q) {
            how.template run<n_pages, n>(keys, q, scores + p * kPageTokens);
        });
    };
    int p = 0;
    for (; p + kScorePages <= pages; p += kScorePages) {
        if (one_token) prefetch_pages(tile, first + p, first + pages);
        score.template operator()<kScorePages>(p);
    }
    for (; p < pages; ++p) score.template operator()<1>(p);
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

// What int8 values are to be multiplied by goes into their weights.
static void fold_value_scales(const AttentionTile& tile, int begin, int n, float* weights) {
    for (int i = 0; i < n; i += kPageTokens) {
        const uint8_t* values = page_at(tile, (begin + i) / kPageTokens, tile.value_offset);
        const F32 scale = load((const float*)(values + tile.value_stride * kPageTokens));
        for (int q = 0; q < tile.n_queries; ++q) {
            float* row = weights + q * kPartition + i;
            store(row, mul(load(row), scale));
        }
    }
}

// out[q] = sum over positions of weight * value, for n_vectors x 16 elements of the head
template <class Element, int n_vectors, int n_queries>
static inline void weigh_values(const AttentionTile& tile, int begin, int end, const float* weights, int q, int d, float* out,
                                int out_stride) {
    F32 total[n_queries][n_vectors];
    for (auto& row : total)
        for (F32& sum : row) sum = zero();
    for (int position = begin; position < end;) {
        const int page_end = std::min(end, (position / kPageTokens + 1) * kPageTokens), stride = tile.value_stride;
        const Element* value =
            (const Element*)page_at(tile, position / kPageTokens, tile.value_offset) + position % kPageTokens * stride + d;
        const float* weight = weights + q * kPartition + position % kPartition;
        for (; position < page_end; ++position, value += stride, ++weight) {
            F32 values[n_vectors];
            for (int v = 0; v < n_vectors; ++v) values[v] = load_element(value + v * kLanes);
            for (int i = 0; i < n_queries; ++i) {
                const F32 w = broadcast(weight[i * kPartition]);
                for (int v = 0; v < n_vectors; ++v) total[i][v] = fma(w, values[v], total[i][v]);
            }
        }
    }
    for (int i = 0; i < n_queries; ++i)
        for (int v = 0; v < n_vectors; ++v) store(out + (q + i) * out_stride + d + v * kLanes, total[i][v]);
}

template <class Element>
static inline void weigh_partition(const AttentionTile& tile, int begin, int end, const float* weights, float* out, int out_stride) {
    constexpr int kWidth = kValueVectors * kLanes;
    for_query_tiles(tile.n_queries, [&]<int n>(int q) {
        int d = 0;
        for (; d + kWidth <= tile.value_stride; d += kWidth)
            weigh_values<Element, kValueVectors, n>(tile, begin, end, weights, q, d, out, out_stride);
        for (; d < tile.value_stride; d += kLanes) weigh_values<Element, 1, n>(tile, begin, end, weights, q, d, out, out_stride);
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

// What the queries see of one partition, weighted: part[query], `stride` floats apart, with the largest score and the sum of
// the weights of each. Values beyond what any query sees are not read.
template <class Element, class Scores>
static void attend_to_partition(const AttentionTile& tile, const Scores& how, int begin, Range seen, float* part, int stride, float* tops,
                                float* sums) {
    float* scores = tile.scratch;
    const int stop = std::min(begin + kPartition, seen.end), padded = int(round_up(stop - begin, kPageTokens));
    score_partition(tile, how, begin, stop, scores);
    if (tile.softcap > 0)
        for (int q = 0; q < tile.n_queries; ++q) soft_cap(scores + q * kPartition, padded, tile.softcap);
    for (int q = 0; q < tile.n_queries; ++q)
        soften(scores + q * kPartition, begin, padded, tile.first[q], tile.last[q], tops[q], sums[q]);
    if constexpr (std::is_same_v<Element, int8_t>) fold_value_scales(tile, begin, padded, scores);
    weigh_partition<Element>(tile, std::max(begin, seen.begin), stop, scores, part, stride);
}

// Positions that any query of the tile sees.
static inline Range seen_by(const AttentionTile& tile) {
    return {*std::min_element(tile.first, tile.first + tile.n_queries), *std::max_element(tile.last, tile.last + tile.n_queries) + 1};
}

static inline void write_attended(const float* total, const Running& running, int head_dim, float* out) {
    for (int d = 0; d < head_dim; ++d) out[d] = total[d] / running.sum;
}

struct AttendToAll {
    template <class Element, class Scores>
    void run(const AttentionTile& tile, const Scores& how) const {
        const int n = int(round_up(tile.head_dim, kLanes));
        float* part = tile.scratch + kMaxQueryTile * kPartition;
        float* total = part + n * kMaxQueryTile;
        Running running[kMaxQueryTile];
        std::fill(total, total + n * tile.n_queries, 0.0f);
        const Range seen = seen_by(tile);
        for (int begin = seen.begin / kPartition * kPartition; begin < seen.end; begin += kPartition) {
            float tops[kMaxQueryTile], sums[kMaxQueryTile];
            attend_to_partition<Element>(tile, how, begin, seen, part, n, tops, sums);
            for (int q = 0; q < tile.n_queries; ++q)  // a partition that a query does not see must leave no trace in it
                if (tile.last[q] >= begin && tile.first[q] < begin + kPartition)
                    merge(running[q], tops[q], sums[q], part + q * n, total + q * n, n);
        }
        for (int q = 0; q < tile.n_queries; ++q) write_attended(total + q * n, running[q], tile.head_dim, tile.outputs[q]);
    }
};

struct AttendToSome {
    Range partitions;
    float* partials;

    template <class Element, class Scores>
    void run(const AttentionTile& tile, const Scores& how) const {
        const int n = int(round_up(tile.head_dim, kLanes)), stride = partial_floats(tile.head_dim);
        const Range seen = seen_by(tile), own = overlap(partitions, {seen.begin / kPartition, (seen.end - 1) / kPartition + 1});
        for (int p = own.begin; p < own.end; ++p) {
            float* part = partials + size_t(p) * tile.n_queries * stride;
            float tops[kMaxQueryTile], sums[kMaxQueryTile];
            attend_to_partition<Element>(tile, how, p * kPartition, seen, part, stride, tops, sums);
            for (int q = 0; q < tile.n_queries; ++q) {
                part[q * stride + n] = tops[q];
                part[q * stride + n + 1] = sums[q];
            }
        }
    }
};

template <class What>
static void attend_with(const AttentionTile& tile, const What& what) {
    const int row = int(round_up(tile.head_dim, kLanes));
    float* part = tile.scratch + kMaxQueryTile * kPartition;
    switch (tile.kv_type) {
        case KvType::f16: return what.template run<uint16_t>(tile, HalfScores{tile});
        case KvType::int8: return what.template run<int8_t>(tile, Int8Scores(tile, part, part + 2 * row * kMaxQueryTile));
    }
}

static void attend(const AttentionTile& tile) { attend_with(tile, AttendToAll{}); }

static void attend_some(const AttentionTile& tile, Range partitions, float* partials) {
    attend_with(tile, AttendToSome{partitions, partials});
}

static void merge_partials(const float* partials, size_t stride, int n_partitions, int head_dim, float* scratch, float* out) {
    const int n = int(round_up(head_dim, kLanes));
    Running running;
    std::fill(scratch, scratch + n, 0.0f);
    for (int p = 0; p < n_partitions; ++p, partials += stride) merge(running, partials[n], partials[n + 1], partials, scratch, n);
    write_attended(scratch, running, head_dim, out);
}
