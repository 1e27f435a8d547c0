// Attention of one step: rotation, the cache write, and tiles of queries over the cached pages.
#pragma once
#include <algorithm>
#include <vector>

#include "batch.h"
#include "cache.h"
#include "rows.h"
#include "shape.h"
#include "weights.h"

namespace madang {

class Attention {
public:
    Attention(const DecoderShape& shape, const Kernels& kernels, Cache& cache, int n_threads);

    Rows query, key, value;  // products of the layer; queries come out scaled
    Rows attended;           // what attend() leaves

    void resize(int n_tokens);
    // Lays out the tiles and angles of a batch, which must outlive the step. No tile goes beyond a multiple of `part_tokens`,
    // where that is not 0.
    void prepare(const Batch& batch, int part_tokens);
    // Normalizes and rotates one token's queries and keys, and writes its keys and values to the cache.
    void store(const Layer& layer, int index, int token, int thread);
    // The work of a layer: tiles of a few tokens, times groups of heads that share their keys and values.
    Range tiles(Range tokens) const { return {tile_of_[size_t(tokens.begin)], tile_of_[size_t(tokens.end) - 1] + 1}; }
    int head_units() const { return shape_.n_kv_heads * units_per_kv(); }
    void attend(int layer, int tile, int head_unit, int thread);
    // Where few tiles see far back, threads share their partitions instead: pieces() of all tiles and heads, attend_pieces(),
    // and once all are there, merge() for each token.
    bool is_split() const { return n_partitions_ > 0; }
    int pieces() const { return int(tiles_.size()) * head_units() * n_partitions_; }
    void attend_pieces(int layer, Range pieces, int thread);
    void merge(int layer, int token, int thread);
    // Attention of one token's head to the n positions of its sequence, in plain loops: what attend() weighs values with.
    void probabilities(int layer, int token, int head, float* out, int n) const;

private:
    int units_per_kv() const { return (shape_.heads_per_kv() + kMaxQueryTile - 1) / kMaxQueryTile; }
    int heads_per_unit() const { return (shape_.heads_per_kv() + units_per_kv() - 1) / units_per_kv(); }
    void set_angles(const Rope& rope, const Rope* long_rope, std::vector<float>& angles) const;
    void normalize_heads(const Norm& norm, float* row, int n_heads, float* padded) const;
    void rotate(int rope, float* head, int token) const;
    Range visible(int layer, int token) const;  // positions
    // The queries of some heads, which must stay where they are while the kernel runs.
    struct Queries {
        const float* rows[kMaxQueryTile];
        float* outputs[kMaxQueryTile];
        int first[kMaxQueryTile], last[kMaxQueryTile], n = 0;
    };
    Range heads_of(int head_unit) const;
    AttentionTile lay_out(int layer, int tile, int head_unit, int thread, Queries& queries);
    float* partials(int tile, int head_unit);
    void choose_split(int part_tokens);

    const DecoderShape& shape_;
    const Kernels& kernels_;
    Cache& cache_;
    const Batch* batch_ = nullptr;
    std::vector<Range> tiles_;  // consecutive tokens of one sequence
    std::vector<int> tile_of_;  // per token
    int n_partitions_ = 0;      // of the longest sequence, when partitions are shared
    std::vector<float> partials_;
    std::vector<int> last_position_;          // per token: the last of its sequence in this step; for encoders
    std::vector<std::vector<float>> angles_;  // per rope; per token: cosines, then sines
    float scale_;
    struct Scratch {
        std::vector<float> attention, padded;
        std::vector<uint8_t> elements;
    };
    std::vector<Scratch> scratch_;  // per thread
};

}  // namespace madang
