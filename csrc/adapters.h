// Low-rank adapters (LoRA, arXiv:2106.09685) beside the weights: y += scale * B (A x), chosen per sequence.
#pragma once
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "batch.h"
#include "weights.h"

namespace madang {

struct LowRank {
    PackedMatrix a, b;  // float32, rank x n_in and n_out x rank
};

// Consecutive rows of a step that take the same adapter with the same scale.
struct AdapterRun {
    int adapter;
    float scale;
    Range rows;
};

class Adapters {
public:
    explicit Adapters(const Weights& weights) : weights_(weights) {}

    int add();
    // Both factors of the matrix of this canonical name, of float types: A is rank x n_in, B n_out x rank. Throws
    // std::invalid_argument for an adapter, name, type or size that does not fit.
    struct Factor {
        uint32_t type;
        std::span<const uint8_t> bytes;
    };
    void set(int id, const std::string& name, int rank, const Factor& a, const Factor& b, ThreadPool& pool);
    void remove(int id);

    // Throws std::invalid_argument when the batch names an adapter that is not there.
    void check(const Batch& batch) const;
    // Runs over the given tokens of a batch, in their order; none when none of them has an adapter.
    std::vector<AdapterRun> runs(const Batch& batch, std::span<const int32_t> tokens) const;
    // What an adapter adds to a matrix; nullptr when nothing.
    const LowRank* find(int id, const PackedMatrix* matrix) const;
    int max_rank() const { return max_rank_; }

private:
    using Adapter = std::unordered_map<const PackedMatrix*, LowRank>;
    const Weights& weights_;
    std::map<int, Adapter> adapters_;
    int next_id_ = 0, max_rank_ = 0;
};

}  // namespace madang
